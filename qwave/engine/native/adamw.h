/* AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on vectors of weights.
 *
 * The two moments of a weight are float32, or bfloat16 in one word of four bytes: the first moment
 * in the upper half, the second in the lower half. The first moment is rounded to nearest. The second
 * changes by a thousandth in each step, which rounding to nearest would lose: it is rounded up or
 * down at random, with the probabilities that keep its mean (stochastic rounding).
 */
#include "layers.h"

typedef struct {
    double beta1, beta2;
    float weight_decay, epsilon;
    float learning_rate, correction1, correction2; /* of this step: the rate, and 1 - beta^step */
    uint32_t noise;                                /* of this step, for stochastic rounding */
} adamw;

typedef struct { /* the constants of one step, computed from `adamw` */
    float rate, keep, root2, inverse2, beta2, epsilon, rest1, rest2;
    uint32_t noise;
} factors;

static factors factors_of(const adamw *o) {
    return (factors){
        .rate = o->learning_rate / o->correction1,
        .keep = 1.0f - o->learning_rate * o->weight_decay,
        .root2 = 1.0f / sqrtf(o->correction2),
        .inverse2 = 1.0f / o->correction2,
        .beta2 = (float)o->beta2,
        .epsilon = o->epsilon,
        .rest1 = (float)(1.0 - o->beta1),
        .rest2 = (float)(1.0 - o->beta2),
        .noise = o->noise,
    };
}

/* Roots and quotients: an estimate of 14 bits by the processor, then one iteration of Newton's
 * method. All but the last one or two bits are right, in two thirds of the time. */
static inline lanes inverse_root(lanes x) { /* x > 0 */
#if defined(__AVX512F__)
    const lanes y = (lanes)_mm512_rsqrt14_ps((__m512)x);
    return y * (1.5f - 0.5f * x * y * y);
#else
    for (int i = 0; i < LANES; i++) x[i] = 1.0f / sqrtf(x[i]);
    return x;
#endif
}

static inline lanes root_of(lanes x) { /* x >= 0 */
#if defined(__AVX512F__)
    return x * inverse_root((lanes)_mm512_max_ps(_mm512_set1_ps(0x1p-126f), (__m512)x));
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

static inline lanes quotient(lanes a, lanes b) {
#if defined(__AVX512F__)
    lanes y = (lanes)_mm512_rcp14_ps((__m512)b);
    y *= 2.0f - b * y;
    return a * y;
#else
    return a / b;
#endif
}

/* LANES weights p, updated with the gradients g; the moments m and v are updated in memory. */
static inline lanes update_floats(lanes p, lanes g, float *m, float *v, const factors *f) {
    const lanes mean0 = *(const unaligned *)m, square0 = *(const unaligned *)v;
    const lanes mean = mean0 + f->rest1 * (g - mean0);
    const lanes square = f->beta2 * square0 + f->rest2 * g * g;
    *(unaligned *)m = mean;
    *(unaligned *)v = square;
    return p * f->keep - f->rate * quotient(mean, root_of(square) * f->root2 + f->epsilon);
}

/* The same with both moments in words. Epsilon, which prevents a division by zero, stands under the
 * root here. */
static inline lanes update_words(lanes p, lanes g, uint32_t *words, bit_lanes noise,
                               const factors *f) {
    const whole_lanes word = *(const unaligned_words *)words;
    const lanes mean0 = (lanes)(word & (int32_t)0xffff0000), square0 = (lanes)(word << 16);
    const lanes mean = mean0 + f->rest1 * (g - mean0);
    const lanes square = f->beta2 * square0 + f->rest2 * g * g;
    const bit_lanes low = ((bit_lanes)square + (noise >> 16)) >> 16;
    const bit_lanes high = ((bit_lanes)mean + 0x8000u) & 0xffff0000u;
    *(unaligned_words *)words = (whole_lanes)(low | high);
    const lanes root = inverse_root(square * f->inverse2 + f->epsilon * f->epsilon);
    return p * f->keep - f->rate * mean * root;
}

/* Random bits for LANES weights of a layer from index `at` on. */
static inline bit_lanes noise_at(int64_t at, const factors *f) {
    const uint32_t golden = 0x9e3779b1u;
    bit_lanes hashes;
    for (int i = 0; i < LANES; i++) hashes[i] = (uint32_t)i * golden;
    return hashes + (f->noise + (uint32_t)at * golden);
}

/* Updates LANES weights of a layer from index `at` on, and returns them. */
static inline lanes update_lanes(const layer *l, int64_t at, lanes g, const factors *f,
                               const int is_short) {
    float *weight = l->weight + at;
    const lanes p = *(const unaligned *)weight;
    const lanes now = is_short ? update_words(p, g, l->words + at, noise_at(at, f), f)
                               : update_floats(p, g, l->mean + at, l->square + at, f);
    *(unaligned *)weight = now;
    return now;
}

/* The same for `count` weights, less than LANES; the rest of the vector is 0. */
static lanes update_few(const layer *l, int64_t at, int64_t count, const float *g, const factors *f) {
    const size_t bytes = (size_t)count * 4;
    float p[LANES] = {0}, m[LANES] = {0}, v[LANES] = {0}, gradient[LANES] = {0};
    uint32_t words[LANES] = {0};
    memcpy(p, l->weight + at, bytes);
    memcpy(gradient, g, bytes);
    lanes now;
    if (l->words) {
        memcpy(words, l->words + at, bytes);
        now = update_words(*(unaligned *)p, *(unaligned *)gradient, words, noise_at(at, f), f);
        memcpy(l->words + at, words, bytes);
    } else {
        memcpy(m, l->mean + at, bytes);
        memcpy(v, l->square + at, bytes);
        now = update_floats(*(unaligned *)p, *(unaligned *)gradient, m, v, f);
        memcpy(l->mean + at, m, bytes);
        memcpy(l->square + at, v, bytes);
    }
    memcpy(l->weight + at, &now, bytes);
    return now;
}

enum { BIASES = 128 };

/* Updates the biases of a layer, given the gradient g [n, o] of its outputs. */
static void update_bias(const layer *l, int64_t n, const float *restrict g, const factors *f) {
    const int64_t o = l->n_outputs;
    for (int64_t first = 0; first < o; first += BIASES) {
        const int64_t count = o - first < BIASES ? o - first : BIASES;
        float gradient[BIASES] = {0};
        for (int64_t k = 0; k < n; k++)
            for (int64_t i = 0; i < count; i++) gradient[i] += g[k * o + first + i];
        float *restrict p = l->bias + first;
        float *restrict m = l->bias_mean + first, *restrict v = l->bias_square + first;
        for (int64_t i = 0; i < count; i++) {
            m[i] += f->rest1 * (gradient[i] - m[i]);
            v[i] = f->beta2 * v[i] + f->rest2 * gradient[i] * gradient[i];
            p[i] = p[i] * f->keep - f->rate * m[i] / (sqrtf(v[i]) * f->root2 + f->epsilon);
        }
    }
}
