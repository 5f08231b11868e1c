/* A layer, and its forward products.
 *
 * Products of codes are sums of int8 (weights) times uint8 (activations plus 128). Compilers turn them
 * into the processor's dot-product instructions. They are exact.
 *
 * Notation: n rows, i and o inputs and outputs of a layer.
 */
#include "codes.h"

typedef struct { /* inputs of a layer */
    float *values;   /* codes, or floats where the scheme has no codes, [rows, i] */
    uint8_t *narrow; /* codes + 128; NULL for products of floats */
    float *scale;    /* value of one code, [rows] */
} inputs;

typedef struct {
    int64_t n_inputs, n_outputs;
    grid weights, activations;
    float *weight;                /* [o, i] */
    float *mean, *square;         /* moments of the weight in float32, [o, i]; NULL with words */
    uint32_t *words;              /* both moments as bfloat16, the first in the upper half; or NULL */
    float *bias, *bias_mean, *bias_square; /* [o] */
    void *codes;                  /* of the weight, [o, i]: int8 where in.narrow is there, else int16 */
    float *scale;                 /* of each row of the weight, [o] */
    int32_t *code_sum;            /* of each row of int8 codes, [o] */
    inputs in;                    /* of the batch (first layers), or of the clips sent */
    mask mask;                    /* dropout of the inputs; the next three: later layers only */
    float *normal;                /* standardised outputs of the layer before, [rows, i] */
    float *slope;                 /* derivative of ReLU and mask together, [rows, i] */
    float *rstd;                  /* reciprocal standard deviations, [rows] */
} layer;

static const float NORM_EPSILON = 1e-5f;

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8, VECTORS = 2 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 4, VECTORS = 2 };
#else
enum { LANES = 4, ROWS = 8, VECTORS = 2 };
#endif
enum { BLOCK = 4 }; /* rows of weights in a forward product */
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t whole_lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t bit_lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t unaligned_words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int16_t unaligned_codes __attribute__((vector_size(2 * LANES), aligned(2)));
#define EVERY_ROW _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
#define EVERY_VECTOR _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)
#define EVERY_BLOCK _Pragma("GCC unroll 4") for (int r = 0; r < BLOCK; r++)

/* Replaces row `to` of a layer's inputs by its codes. A row that is not finite gets the scale NaN. */
static void encode_row(int64_t width, const grid *q, inputs in, int64_t to) {
    if (!q->highest) return;
    float *restrict p = in.values + to * width;
    const float measured = scale_of(width, measure(width, p, q, 0.0f), q);
    const float scale = fmaxf(measured, SMALLEST_SAMPLE_SCALE);
    const float factor = q->denominator * (1.0f / scale), top = (float)q->highest;
    in.scale[to] = isfinite(measured) ? scale / q->denominator : NAN;
    EVERY_CODE(float, p, )
    if (in.narrow) {
        uint8_t *restrict narrow = in.narrow + to * width;
        for (int64_t i = 0; i < width; i++) narrow[i] = (uint8_t)((int32_t)p[i] + 128);
    }
}

/* Products of one clip with BLOCK rows of weights: each value of x is loaded once for all rows. */
#define DOT(NAME, X, W, SUM)                                                                  \
    static void NAME(int64_t width, const X *restrict x, const W *restrict w, int64_t n_rows, \
                     SUM *restrict out) {                                                     \
        const W *restrict w1 = n_rows > 1 ? w + width : w;                                    \
        const W *restrict w2 = n_rows > 2 ? w + 2 * width : w;                                \
        const W *restrict w3 = n_rows > 3 ? w + 3 * width : w;                                \
        SUM s[BLOCK] = {0, 0, 0, 0};                                                          \
        for (int64_t i = 0; i < width; i++) {                                                 \
            s[0] += x[i] * w[i];                                                              \
            s[1] += x[i] * w1[i];                                                             \
            s[2] += x[i] * w2[i];                                                             \
            s[3] += x[i] * w3[i];                                                             \
        }                                                                                     \
        for (int64_t row = 0; row < BLOCK; row++) out[row] = s[row];                          \
    }
DOT(dot_narrow, uint8_t, int8_t, int32_t)
DOT(dot_codes, float, int16_t, float)
DOT(dot_floats, float, float, float)

static inline lanes load_floats(const float *p) { return *(const unaligned *)p; }
static inline lanes load_codes(const int16_t *p) {
    const whole_lanes whole = __builtin_convertvector(*(const unaligned_codes *)p, whole_lanes);
    return __builtin_convertvector(whole, lanes);
}

/* Products of four clips with BLOCK rows, out [4, BLOCK]: twice as fast for sums of floats. */
#define TILE(NAME, W, LOAD)                                                                   \
    static void NAME(int64_t width, const float *const *x, const W *restrict w,               \
                     float *restrict out) {                                                   \
        lanes s[BLOCK], t[BLOCK], u[BLOCK], v[BLOCK];                                         \
        EVERY_BLOCK s[r] = t[r] = u[r] = v[r] = (lanes){0};                                   \
        const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];                           \
        int64_t i = 0;                                                                        \
        for (; i + LANES <= width; i += LANES) {                                              \
            const lanes a = load_floats(x0 + i), b = load_floats(x1 + i);                     \
            const lanes c = load_floats(x2 + i), d = load_floats(x3 + i);                     \
            EVERY_BLOCK {                                                                     \
                const lanes y = LOAD(w + r * width + i);                                      \
                s[r] += a * y;                                                                \
                t[r] += b * y;                                                                \
                u[r] += c * y;                                                                \
                v[r] += d * y;                                                                \
            }                                                                                 \
        }                                                                                     \
        for (int r = 0; r < BLOCK; r++) {                                                     \
            float sums[4] = {sum_of(s[r]), sum_of(t[r]), sum_of(u[r]), sum_of(v[r])};         \
            for (int64_t rest = i; rest < width; rest++)                                      \
                for (int k = 0; k < 4; k++) sums[k] += x[k][rest] * w[r * width + rest];      \
            for (int k = 0; k < 4; k++) out[k * BLOCK + r] = sums[k];                         \
        }                                                                                     \
    }
static inline float sum_of(lanes v) {
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}
TILE(tile_codes, int16_t, load_codes)
TILE(tile_floats, float, load_floats)

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
enum { HAS_NARROW_TILES = 1 };
/* The sum of each of four vectors. */
static inline __m128i sums_of(const __m512i *s) {
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]),
                                       _mm512_unpackhi_epi32(s[0], s[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]),
                                       _mm512_unpackhi_epi32(s[2], s[3]));
    const __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    const __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

/* The same for int8 codes: half of the loads, and a third of the sums within vectors. */
static void tile_narrow(int64_t width, const uint8_t *const *x, const int8_t *restrict w,
                        int32_t *restrict out) {
    __m512i s[BLOCK], t[BLOCK], u[BLOCK], v[BLOCK];
    EVERY_BLOCK s[r] = t[r] = u[r] = v[r] = _mm512_setzero_si512();
    for (int64_t i = 0; i < width; i += 64) {
        const __mmask64 there = width - i < 64 ? ~(~0ull << (width - i)) : ~0ull;
        const __m512i a = _mm512_maskz_loadu_epi8(there, x[0] + i);
        const __m512i b = _mm512_maskz_loadu_epi8(there, x[1] + i);
        const __m512i c = _mm512_maskz_loadu_epi8(there, x[2] + i);
        const __m512i d = _mm512_maskz_loadu_epi8(there, x[3] + i);
        EVERY_BLOCK {
            const __m512i y = _mm512_maskz_loadu_epi8(there, w + r * width + i);
            s[r] = _mm512_dpbusd_epi32(s[r], a, y);
            t[r] = _mm512_dpbusd_epi32(t[r], b, y);
            u[r] = _mm512_dpbusd_epi32(u[r], c, y);
            v[r] = _mm512_dpbusd_epi32(v[r], d, y);
        }
    }
    _mm_storeu_si128((void *)out, sums_of(s));
    _mm_storeu_si128((void *)(out + BLOCK), sums_of(t));
    _mm_storeu_si128((void *)(out + 2 * BLOCK), sums_of(u));
    _mm_storeu_si128((void *)(out + 3 * BLOCK), sums_of(v));
}
#else
enum { HAS_NARROW_TILES = 0 };
static void tile_narrow(int64_t width, const uint8_t *const *x, const int8_t *restrict w,
                        int32_t *restrict out) {
    (void)width, (void)x, (void)w, (void)out;
}
#endif

/* Outputs y [n, o] of a layer for n rows of its inputs: those in `rows`, or the first n if NULL. */
static void multiply(const layer *l, int64_t n, const int64_t *rows, float *restrict y) {
    const int64_t width = l->n_inputs, o = l->n_outputs;
    const int is_float = !l->weights.highest, is_coded = l->activations.highest != 0;
    const char *weights = is_float ? (const char *)l->weight : (const char *)l->codes;
    const int64_t block = BLOCK * width * (is_float ? 4 : l->in.narrow ? 1 : 2);
    for (int64_t r = 0; r < o; r += BLOCK) {
        const int64_t n_rows = o - r < BLOCK ? o - r : BLOCK;
        const char *here = weights + r / BLOCK * block, *next = here + block;
        /* The next block of weights is fetched from memory meanwhile, a part with each clip. */
        const int64_t fetched = r + BLOCK < o ? block / 64 / (n ? n : 1) + 1 : 0;
        float scale[BLOCK];
        for (int64_t j = 0; j < n_rows; j++)
            scale[j] = is_float ? 1.0f : l->scale[r + j] / l->weights.denominator;
        for (int64_t k = 0, together; k < n; k += together) {
            const int is_tile =
                n - k >= 4 && n_rows == BLOCK && (HAS_NARROW_TILES || !l->in.narrow);
            float dot[4 * BLOCK];
            together = is_tile ? 4 : 1;
            for (int64_t line = 0; line < fetched * together; line++, next += 64)
                __builtin_prefetch(next, 0, 2);
            if (l->in.narrow) {
                const uint8_t *x[4];
                int32_t whole[4 * BLOCK] = {0};
                for (int64_t j = 0; j < together; j++)
                    x[j] = l->in.narrow + (rows ? rows[k + j] : k + j) * width;
                if (is_tile)
                    tile_narrow(width, x, (const int8_t *)here, whole);
                else
                    dot_narrow(width, x[0], (const int8_t *)here, n_rows, whole);
                for (int64_t clip = 0; clip < together; clip++)
                    for (int64_t j = 0; j < n_rows; j++)
                        dot[clip * BLOCK + j] =
                            (float)(whole[clip * BLOCK + j] - 128 * l->code_sum[r + j]);
            } else {
                const float *x[4];
                for (int64_t j = 0; j < together; j++)
                    x[j] = l->in.values + (rows ? rows[k + j] : k + j) * width;
                if (is_tile && is_float)
                    tile_floats(width, x, (const float *)here, dot);
                else if (is_tile)
                    tile_codes(width, x, (const int16_t *)here, dot);
                else if (is_float)
                    dot_floats(width, x[0], (const float *)here, n_rows, dot);
                else
                    dot_codes(width, x[0], (const int16_t *)here, n_rows, dot);
            }
            for (int64_t clip = 0; clip < together; clip++) {
                const int64_t row = rows ? rows[k + clip] : k + clip;
                const float input_scale = is_coded ? l->in.scale[row] : 1.0f;
                float *out = y + (k + clip) * o + r;
                for (int64_t j = 0; j < n_rows; j++)
                    out[j] = dot[clip * BLOCK + j] * scale[j] * input_scale + l->bias[r + j];
            }
        }
    }
}

/* Inputs of a later layer from the outputs y [n, i] of the layer before: standardised, ReLU, dropout,
 * codes. rows[k], the row of clip k in the batch, chooses the row of the mask. */
static void activate(const layer *l, int64_t n, const int64_t *rows, uint64_t key,
                     uint32_t *restrict bits, const float *restrict y) {
    const int64_t width = l->n_inputs;
    for (int64_t k = 0; k < n; k++) {
        const float *restrict p = y + k * width;
        float *restrict values = l->in.values + k * width;
        float *restrict normal = l->normal + k * width, *restrict slope = l->slope + k * width;
        float sum = 0.0f, squares = 0.0f;
        for (int64_t i = 0; i < width; i++) sum += p[i];
        const float mean = sum / (float)width;
        for (int64_t i = 0; i < width; i++) squares += (p[i] - mean) * (p[i] - mean);
        const float rstd = 1.0f / sqrtf(squares / (float)width + NORM_EPSILON);
        l->rstd[k] = rstd;
        if (l->mask.slot >= 0 && key)
            draw_row(width, &l->mask, key, rows[k], bits, slope);
        else
            for (int64_t i = 0; i < width; i++) slope[i] = 1.0f;
        for (int64_t i = 0; i < width; i++) {
            normal[i] = (p[i] - mean) * rstd;
            slope[i] = normal[i] > 0.0f ? slope[i] : 0.0f;
            /* Not a product with the slope: NaN has to stay NaN. */
            values[i] = normal[i] <= 0.0f ? 0.0f : normal[i] * slope[i];
        }
        encode_row(width, &l->activations, l->in, k);
    }
}
