/* Scales and codes of a row, as in qwave.nn.quantizers; dropout masks, as in qwave.nn.dropout. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

typedef struct {
    int32_t spacing, highest; /* highest is 0 where values are floats and have no codes */
    int32_t is_absmax;
    float denominator, scale_factor;
} grid;

static const float SMALLEST_SCALE = 0x1p-14f, LARGEST_SCALE = 65504.0f;
static const float SMALLEST_SAMPLE_SCALE = 0x1p-100f;

/* The largest absolute value of p. The bits of positive floats, read as whole numbers, have the same
 * order as the floats, with NaN above all: compilers vectorise a maximum of whole numbers, and not
 * one of floats. */
static float absmax(int64_t width, const float *restrict p) {
    int32_t most = 0;
    for (int64_t i = 0; i < width; i++) {
        int32_t bits;
        memcpy(&bits, p + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float value;
    memcpy(&value, &most, sizeof value);
    return value;
}

/* The largest absolute value of a row (absmax) or the sum of absolute values (absmean), where the
 * row goes on with `width` more values p; so_far is the result for the values before them. */
static float measure(int64_t width, const float *restrict p, const grid *q, float so_far) {
    if (q->is_absmax) {
        const float ends[2] = {so_far, absmax(width, p)};
        return absmax(2, ends);
    }
    float sum = so_far;
    for (int64_t i = 0; i < width; i++) sum += fabsf(p[i]);
    return sum;
}

/* The scale of a row of `width` values, from what `measure` returned. */
static float scale_of(int64_t width, float measured, const grid *q) {
    return (q->is_absmax ? measured : measured / (float)width) * q->scale_factor;
}

/* The scale of weights as it is stored: exact in float16. A row with NaN has the scale NaN, because
 * codes cannot be NaN. */
static float stored_scale(float scale, const grid *q) {
    if (isnan(scale)) return scale;
    scale = fminf(fmaxf(scale, SMALLEST_SCALE), LARGEST_SCALE);
    _Float16 half = (_Float16)scale;
    if (q->is_absmax && scale > (float)half * (1.0f + 0.5f / (float)q->highest)) {
        int16_t bits; /* the next float16: a scale rounded down would clip the largest weight */
        memcpy(&bits, &half, sizeof bits);
        bits++;
        memcpy(&half, &bits, sizeof bits);
    }
    return (float)half;
}

/* Value clipped to -top .. top. */
static inline float within(float value, float top) {
    value = value > top ? top : value;
    return value < -top ? -top : value;
}

/* For a whole row: OUT[i] = code of p[i], then the statement THEN. The factor is a product with a
 * reciprocal, as in PyTorch: a quotient would give other codes in a few cases of 16 bits. */
#define EVERY_CODE(TYPE, OUT, THEN)                                                           \
    if (q->spacing == 1)                                                                      \
        for (int64_t i = 0; i < width; i++) {                                                 \
            const float code = within(nearbyintf(p[i] * factor), top);                        \
            (OUT)[i] = (TYPE)code;                                                            \
            THEN;                                                                             \
        }                                                                                     \
    else                                                                                      \
        for (int64_t i = 0; i < width; i++) {                                                 \
            const float code = within(floorf(p[i] * factor * 0.5f) * 2.0f + 1.0f, top);       \
            (OUT)[i] = (TYPE)code;                                                            \
            THEN;                                                                             \
        }

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
enum { DOWN = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC };

/* Codes of whole blocks of 64 weights; returns how many weights that is. As a plain loop, codes cost
 * as much as AdamW: the compiler rounds, clips and converts in four instructions, and narrows one by
 * one. Here the conversion rounds, and the lower end is clipped afterwards, 64 at a time. */
static int64_t narrow_blocks(int64_t width, const float *restrict p, const grid *q, float factor,
                             int8_t *restrict codes, int32_t *sum, int is_far) {
    const int is_aligned = (uintptr_t)codes % 64 == 0;
    const int is_odd = q->spacing == 2, top = is_odd ? (q->highest - 1) / 2 : q->highest;
    const __m512 by = _mm512_set1_ps(is_odd ? factor * 0.5f : factor);
    const __m512 most = _mm512_set1_ps((float)top);
    const __m512i least = _mm512_set1_epi8((char)(is_odd ? -1 - top : -top));
    const __m512i one = _mm512_set1_epi8(1);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i sums = _mm512_setzero_si512();
    int64_t i = 0;
    for (; i + 64 <= width; i += 64) {
        __m512i part[4];
        for (int k = 0; k < 4; k++) {
            const __m512 u = _mm512_mul_ps(_mm512_loadu_ps(p + i + 16 * k), by);
            const __m512 v = _mm512_min_ps(u, most);
            part[k] = is_odd ? _mm512_cvt_roundps_epi32(v, DOWN) : _mm512_cvtps_epi32(v);
        }
        const __m512i low = _mm512_packs_epi32(part[0], part[1]);
        const __m512i high = _mm512_packs_epi32(part[2], part[3]);
        __m512i code = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
        code = _mm512_max_epi8(code, least);
        if (is_odd) code = _mm512_add_epi8(_mm512_add_epi8(code, code), one);
        if (is_far && is_aligned)
            _mm512_stream_si512((void *)(codes + i), code);
        else
            _mm512_storeu_si512(codes + i, code);
        sums = _mm512_dpbusd_epi32(sums, one, code);
    }
    *sum = _mm512_reduce_add_epi32(sums);
    return i;
}
#else
static int64_t narrow_blocks(int64_t width, const float *restrict p, const grid *q, float factor,
                             int8_t *restrict codes, int32_t *sum, int is_far) {
    (void)width, (void)p, (void)q, (void)factor, (void)codes, (void)is_far;
    *sum = 0;
    return 0;
}
#endif

/* Codes of weights as int8; returns their sum, which corrects for inputs stored as codes + 128. With
 * is_far, codes are written past the caches, because they would have left them before they are read:
 * the caches then need not fetch the old codes, which saves 3 % of a step. */
static int32_t narrow_codes(int64_t width, const float *restrict p, const grid *q, float scale,
                            int8_t *restrict codes, int is_far) {
    const float factor = q->denominator * (1.0f / scale), top = (float)q->highest;
    int32_t whole;
    const int64_t done = narrow_blocks(width, p, q, factor, codes, &whole, is_far);
    float sum = 0.0f; /* exact, because these are whole numbers below 2^24 */
    p += done, codes += done, width -= done;
    EVERY_CODE(int8_t, codes, sum += code)
    return isnan(sum) ? 0 : whole + (int32_t)sum; /* the scale is NaN as well */
}

/* Codes of weights as int16. */
static void wide_codes(int64_t width, const float *restrict p, const grid *q, float scale,
                       int16_t *restrict codes, int is_far) {
    const float factor = q->denominator * (1.0f / scale), top = (float)q->highest;
#if defined(__AVX512F__)
    is_far = is_far && (uintptr_t)codes % 64 == 0;
    const __m512 by = _mm512_set1_ps(factor), most = _mm512_set1_ps(top);
    const __m512i least = _mm512_set1_epi32(-q->highest);
    for (; q->spacing == 1 && width >= 16; width -= 16, p += 16, codes += 16) {
        const __m512 u = _mm512_min_ps(_mm512_mul_ps(_mm512_loadu_ps(p), by), most);
        const __m512i code = _mm512_max_epi32(_mm512_cvtps_epi32(u), least);
        if (is_far)
            _mm256_stream_si256((void *)codes, _mm512_cvtepi32_epi16(code));
        else
            _mm256_storeu_si256((void *)codes, _mm512_cvtepi32_epi16(code));
    }
#else
    (void)is_far;
#endif
    EVERY_CODE(int16_t, codes, )
}

typedef struct {
    int32_t slot;      /* number of the mask within a step; -1: nothing is dropped */
    int32_t threshold; /* a value is kept where its random number is not below this, */
    float factor;      /* and multiplied with this */
} mask;

/* The finaliser of SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Seed of one mask of one step. */
static inline uint64_t mask_key(uint64_t seed, int64_t step, int32_t slot) {
    return mix64(mix64(mix64(seed) + (uint64_t)step) + (uint64_t)slot);
}

/* One row of a mask: 0 or m->factor for each of `width` columns. Two columns share a 32-bit hash of
 * their row and column, so that a mask is the same on every device and in any order of drawing. */
static void draw_row(int64_t width, const mask *m, uint64_t key, int64_t row, uint32_t *restrict bits,
                     float *restrict out) {
    const int64_t pairs = (width + 1) / 2;
    const uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    const uint32_t first = (uint32_t)(row * pairs);
    for (int64_t j = 0; j < pairs; j++) {
        uint32_t h = (first + (uint32_t)j) * 0x9e3779b1u + low;
        h = (h ^ (h >> 16)) * 0x7feb352du;
        h = ((h ^ (h >> 15)) + high) * 0x846ca68bu;
        bits[j] = h ^ (h >> 16);
    }
    const int32_t threshold = m->threshold;
    const float factor = m->factor;
    for (int64_t j = 0; j < width / 2; j++) {
        out[2 * j] = (int16_t)bits[j] >= threshold ? factor : 0.0f;
        out[2 * j + 1] = (int16_t)(bits[j] >> 16) >= threshold ? factor : 0.0f;
    }
    if (width % 2) out[width - 1] = (int16_t)bits[width / 2] >= threshold ? factor : 0.0f;
}
