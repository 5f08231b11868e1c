/* Gradients of a layer and AdamW.
 *
 * A weight's gradient is a sum of few outer products, one a clip. It is made tile by tile in
 * registers, used by AdamW and forgotten; the same pass writes the codes of the next step. A step is
 * bound by memory: so weights and moments cross its bus once, and nothing else does.
 *
 * Notation: n rows, i and o inputs and outputs of a layer.
 */
#include "layers.h"

typedef struct {
    double beta1, beta2;
    float weight_decay, epsilon;
    float learning_rate, correction1, correction2; /* of this step; 1 - beta^step */
    uint32_t noise;                                /* of stochastic rounding, of this step */
} adamw;

enum { CHUNK = 128 }; /* columns whose gradient is kept at a time */

static void step_row(int64_t width, float *restrict p, const float *restrict g, float *restrict m,
                     float *restrict v, const adamw *o) {
    const float step = o->learning_rate / o->correction1;
    const float root = 1.0f / sqrtf(o->correction2);
    const float keep = 1.0f - o->learning_rate * o->weight_decay;
    const float beta2 = (float)o->beta2, epsilon = o->epsilon;
    const float rest1 = (float)(1.0 - o->beta1), rest2 = (float)(1.0 - o->beta2);
    for (int64_t i = 0; i < width; i++) {
        const float mean = m[i] + rest1 * (g[i] - m[i]);
        const float square = beta2 * v[i] + rest2 * g[i] * g[i];
        m[i] = mean;
        v[i] = square;
        p[i] = p[i] * keep - step * mean / (sqrtf(square) * root + epsilon);
    }
}

/* 1 / sqrt(x), x > 0. */
static inline lanes inverse_root(lanes x) {
#if defined(__AVX512F__)
    /* 14 bits, and a Newton step: two thirds of the time of a root and a division. */
    const lanes y = __builtin_ia32_rsqrt14ps512_mask(x, (lanes){0}, (uint16_t)-1);
    return y * (1.5f - 0.5f * x * y * y);
#else
    for (int i = 0; i < LANES; i++) x[i] = 1.0f / sqrtf(x[i]);
    return x;
#endif
}

typedef struct { /* of one step, see adamw */
    float step, keep, inverse2, beta2, epsilon, rest1, rest2;
} factors;

/* A step of LANES weights whose moments share a word: the first in its upper half, the second in
 * its lower one, both bfloat16. */
static inline void step_lanes(float *p, const float *g, uint32_t *words, bit_lanes noise,
                              const factors *f) {
    const whole_lanes word = *(const unaligned_words *)words;
    const lanes gradient = *(const unaligned *)g;
    const lanes mean0 = (lanes)(word & (int32_t)0xffff0000), square0 = (lanes)(word << 16);
    const lanes mean = mean0 + f->rest1 * (gradient - mean0);
    const lanes square = f->beta2 * square0 + f->rest2 * gradient * gradient;
    const lanes root = inverse_root(square * f->inverse2 + f->epsilon);
    *(unaligned *)p = *(const unaligned *)p * f->keep - f->step * mean * root;
    const bit_lanes low = ((bit_lanes)square + (noise & 0xffffu)) >> 16;
    const bit_lanes high = ((bit_lanes)mean + 0x8000u) & 0xffff0000u;
    *(unaligned_words *)words = (whole_lanes)(low | high);
}

/* The same as step_row with moments of two bytes. The first is rounded to nearest. The second
 * changes by a thousandth a step and would stand still: it is rounded up with the probability that
 * keeps its mean, by numbers that are uniform for each weight over the steps. Epsilon, there
 * against division by zero, stands under the root. */
static void step_row_bfloat16(int64_t width, float *restrict p, const float *restrict g,
                              uint32_t *restrict words, uint32_t noise, const adamw *o) {
    const factors f = {
        o->learning_rate / o->correction1, 1.0f - o->learning_rate * o->weight_decay,
        1.0f / o->correction2, (float)o->beta2, o->epsilon * o->epsilon,
        (float)(1.0 - o->beta1), (float)(1.0 - o->beta2)};
    const uint32_t golden = 0x9e3779b1u;
    bit_lanes h;
    for (int i = 0; i < LANES; i++) h[i] = noise + (uint32_t)i * golden;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES, h += LANES * golden)
        step_lanes(p + i, g + i, words + i, h, &f);
    if (i < width) {
        float p_end[LANES] = {0}, g_end[LANES] = {0};
        uint32_t words_end[LANES] = {0};
        const size_t bytes = (size_t)(width - i) * 4;
        memcpy(p_end, p + i, bytes);
        memcpy(g_end, g + i, bytes);
        memcpy(words_end, words + i, bytes);
        step_lanes(p_end, g_end, words_end, h, &f);
        memcpy(p + i, p_end, bytes);
        memcpy(words + i, words_end, bytes);
    }
}

static void code_weights(const layer *l, int64_t row, float scale) {
    const int64_t width = l->n_inputs, at = row * width;
    scale = stored_scale(scale, &l->weights);
    l->scale[row] = scale;
    if (l->in.narrow)
        l->code_sum[row] =
            narrow_codes(width, l->weight + at, &l->weights, scale, (int8_t *)l->codes + at);
    else
        wide_codes(width, l->weight + at, &l->weights, scale, (int16_t *)l->codes + at);
}

/* Fetches 2 LANES columns of weights and moments. */
static inline void fetch(const layer *l, int64_t at) {
    for (int64_t i = at; i < at + 2 * LANES; i += 16) {
        __builtin_prefetch(l->weight + i, 1, 2);
        if (l->words) {
            __builtin_prefetch(l->words + i, 1, 2);
        } else {
            __builtin_prefetch(l->mean + i, 1, 2);
            __builtin_prefetch(l->square + i, 1, 2);
        }
    }
}

/* out [ROWS, CHUNK] = sum over k of a [n, ROWS] by x[k][0..width). Meanwhile ROWS rows of weights
 * and moments from `next` on are fetched, a row for each clip: memory would otherwise wait for
 * products, and they for it. Left to the processor's own prefetching a step takes twice as long. */
static void outer(int64_t n, int64_t width, const float *const *x, int64_t column,
                  const float *restrict a, float *restrict out, const layer *l, int64_t next) {
    const int64_t stride = l ? l->n_inputs : 0, end = l ? stride * l->n_outputs : 0;
    const int64_t fetched = next + (ROWS - 1) * stride + width <= end ? ROWS : 0;
    int64_t i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) {
        lanes s[ROWS], t[ROWS];
        EVERY_ROW s[r] = t[r] = (lanes){0};
        int64_t k = 0;
        for (; k < n; k++) {
            const float *from = x[k] + column + i, *b = a + k * ROWS;
            const lanes y = *(const unaligned *)from, z = *(const unaligned *)(from + LANES);
            if (k < fetched) fetch(l, next + k * stride + i);
            EVERY_ROW {
                s[r] += b[r] * y;
                t[r] += b[r] * z;
            }
        }
        for (; k < fetched; k++) fetch(l, next + k * stride + i);
        EVERY_ROW {
            *(unaligned *)(out + r * CHUNK + i) = s[r];
            *(unaligned *)(out + r * CHUNK + i + LANES) = t[r];
        }
    }
    for (; i < width; i++)
        for (int r = 0; r < ROWS; r++) {
            float s = 0.0f;
            for (int64_t k = 0; k < n; k++) s += a[k * ROWS + r] * x[k][column + i];
            out[r * CHUNK + i] = s;
        }
}

/* Two bfloat16 in a word: the first in its lower half. */
static inline uint32_t pair_of(float first, float second) {
    uint32_t low, high;
    memcpy(&low, &first, sizeof low);
    memcpy(&high, &second, sizeof high);
    low += 0x7fff + ((low >> 16) & 1);
    high += 0x7fff + ((high >> 16) & 1);
    return (low >> 16) | (high & 0xffff0000u);
}

#if defined(__AVX512BF16__)
#include <immintrin.h>
enum { HAS_PAIR_PRODUCTS = 1 };

/* outer for pairs of clips: x [n, width] holds two rows' values in a word, exact where they are codes
 * of up to 8 bits, and a [n, ROWS] two clips' gradients, rounded by up to 2^-9. */
static void outer_pairs(int64_t n, int64_t width, const uint32_t *restrict x, int64_t column,
                        const int32_t *restrict a, float *restrict out, const layer *l,
                        int64_t next) {
    const int64_t stride = l->n_inputs, end = stride * l->n_outputs;
    const int64_t fetched = next + (ROWS - 1) * stride + width <= end ? ROWS : 0;
    int64_t i = 0;
    for (; i < width; i += 2 * LANES) { /* x has room for a last, partial one */
        lanes s[ROWS], t[ROWS];
        EVERY_ROW s[r] = t[r] = (lanes){0};
        int64_t k = 0;
        for (; k < n; k++) {
            const uint32_t *from = x + k * stride + column + i;
            const __m512bh y = (__m512bh)_mm512_loadu_si512(from);
            const __m512bh z = (__m512bh)_mm512_loadu_si512(from + LANES);
            if (k < fetched) fetch(l, next + k * stride + i);
            EVERY_ROW {
                const __m512bh b = (__m512bh)_mm512_set1_epi32(a[k * ROWS + r]);
                s[r] = (lanes)_mm512_dpbf16_ps((__m512)s[r], b, y);
                t[r] = (lanes)_mm512_dpbf16_ps((__m512)t[r], b, z);
            }
        }
        for (; k < fetched; k++) fetch(l, next + k * stride + i);
        EVERY_ROW {
            *(unaligned *)(out + r * CHUNK + i) = s[r];
            *(unaligned *)(out + r * CHUNK + i + LANES) = t[r];
        }
    }
}
#else
enum { HAS_PAIR_PRODUCTS = 0 };
static void outer_pairs(int64_t n, int64_t width, const uint32_t *restrict x, int64_t column,
                        const int32_t *restrict a, float *restrict out, const layer *l,
                        int64_t next) {
    (void)n, (void)width, (void)x, (void)column, (void)a, (void)out, (void)l, (void)next;
}
#endif

/* AdamW and the next codes, from g [n, o], the gradient of a layer's results.
 * x: rows of inputs; step: their scales; a [2 n, ROWS] and pairs [(n + 1) / 2, i] and a little: room. */
static void step_layer(const layer *l, int64_t n, const float *const *x, const float *step,
                       const float *restrict g, float *restrict a, uint32_t *restrict pairs,
                       const adamw *options) {
    const int64_t width = l->n_inputs, o = l->n_outputs, n_pairs = (n + 1) / 2;
    /* For fewer clips the pass waits for memory either way, and the quicker products hide less of
     * that: measured slower below 24 clips. */
    const int is_paired = HAS_PAIR_PRODUCTS && l->words && l->in.narrow && n >= 3 * ROWS;
    for (int64_t k = 0; is_paired && k < n_pairs; k++) {
        const float *first = x[2 * k], *second = x[2 * k + 1 < n ? 2 * k + 1 : 2 * k];
        for (int64_t i = 0; i < width; i++) pairs[k * width + i] = pair_of(first[i], second[i]);
    }
    float gradient[ROWS * CHUNK] __attribute__((aligned(64)));
    for (int64_t r = 0; r < o; r += ROWS) {
        const int64_t n_rows = o - r < ROWS ? o - r : ROWS;
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < ROWS; j++)
                a[k * ROWS + j] = j < n_rows ? g[k * o + r + j] * step[k] : 0.0f;
        int32_t *a_pairs = (int32_t *)(a + n * ROWS);
        for (int64_t k = 0; is_paired && k < n_pairs; k++)
            for (int64_t j = 0; j < ROWS; j++) {
                const float *one = a + 2 * k * ROWS + j;
                a_pairs[k * ROWS + j] = (int32_t)pair_of(*one, 2 * k + 1 < n ? one[ROWS] : 0.0f);
            }
        float measures[ROWS] = {0};
        for (int64_t c = 0; c < width; c += CHUNK) {
            const int64_t part = width - c < CHUNK ? width - c : CHUNK, then = c + CHUNK;
            const int64_t next = then < width ? r * width + then : (r + ROWS) * width;
            if (is_paired)
                outer_pairs(n_pairs, part, pairs, c, a_pairs, gradient, l, next);
            else
                outer(n, part, x, c, a, gradient, l, next);
            for (int64_t j = 0; j < n_rows; j++) {
                const int64_t at = (r + j) * width + c;
                if (l->words)
                    step_row_bfloat16(part, l->weight + at, gradient + j * CHUNK, l->words + at,
                                      options->noise + (uint32_t)at * 0x85ebca77u, options);
                else
                    step_row(part, l->weight + at, gradient + j * CHUNK, l->mean + at,
                             l->square + at, options);
                /* While they are in the first-level cache; a pass of its own costs three times as
                 * much. */
                if (l->weights.highest)
                    measures[j] = measure(part, l->weight + at, &l->weights, measures[j]);
            }
        }
        if (l->weights.highest)
            for (int64_t j = 0; j < n_rows; j++)
                code_weights(l, r + j, scale_of(width, measures[j], &l->weights));
    }
    for (int64_t r = 0; r < o; r += CHUNK) {
        const int64_t part = o - r < CHUNK ? o - r : CHUNK;
        memset(gradient, 0, CHUNK * sizeof *gradient);
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < part; j++) gradient[j] += g[k * o + r + j];
        step_row(part, l->bias + r, gradient, l->bias_mean + r, l->bias_square + r, options);
    }
}

/* dx [n, i] of a layer's inputs from g [n, o] of its results.
 * w [o, i], rows [o], a [o, ROWS]: room. */
static void multiply_back(const layer *l, int64_t n, const float *restrict g, float *restrict w,
                          const float **restrict rows, float *restrict a, float *restrict dx) {
    const int64_t width = l->n_inputs, o = l->n_outputs;
    const int8_t *restrict narrow = l->codes;
    const int16_t *restrict wide = l->codes;
    for (int64_t r = 0; r < o; r++) rows[r] = (l->weights.highest ? w : l->weight) + r * width;
    if (l->weights.highest && l->in.narrow)
        for (int64_t i = 0; i < o * width; i++) w[i] = narrow[i];
    else if (l->weights.highest)
        for (int64_t i = 0; i < o * width; i++) w[i] = wide[i];
    float part[ROWS * CHUNK] __attribute__((aligned(64)));
    for (int64_t k = 0; k < n; k += ROWS) {
        const int64_t n_rows = n - k < ROWS ? n - k : ROWS;
        for (int64_t r = 0; r < o; r++) {
            const float scale = l->weights.highest ? l->scale[r] / l->weights.denominator : 1.0f;
            for (int64_t j = 0; j < ROWS; j++)
                a[r * ROWS + j] = j < n_rows ? g[(k + j) * o + r] * scale : 0.0f;
        }
        for (int64_t c = 0; c < width; c += CHUNK) {
            const int64_t columns = width - c < CHUNK ? width - c : CHUNK;
            outer(o, columns, rows, c, a, part, NULL, 0);
            for (int64_t j = 0; j < n_rows; j++)
                memcpy(dx + (k + j) * width + c, part + j * CHUNK, (size_t)columns * sizeof *dx);
        }
    }
}

/* Gradient g [n, i] of a later layer's inputs to that of the results they were made of. */
static void activate_back(const layer *l, int64_t n, float *restrict g) {
    const int64_t width = l->n_inputs;
    for (int64_t k = 0; k < n; k++) {
        float *restrict d = g + k * width;
        const float *restrict normal = l->normal + k * width, *restrict slope = l->slope + k * width;
        float sum = 0.0f, product = 0.0f;
        for (int64_t i = 0; i < width; i++) {
            d[i] *= slope[i];
            sum += d[i];
            product += d[i] * normal[i];
        }
        const float mean = sum / (float)width, along = product / (float)width;
        for (int64_t i = 0; i < width; i++)
            d[i] = (d[i] - mean - normal[i] * along) * l->rstd[k];
    }
}
