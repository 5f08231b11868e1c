/* Gradients of a layer, and the update of its parameters in one optimiser step.
 *
 * A weight's gradient is a sum of few outer products, one for each clip. It is computed tile by tile
 * in registers, used by AdamW there, and never written to memory. The codes for the next step are
 * computed while the rows are in the cache. Weights and moments cross the memory bus once in each
 * step, and nothing else does.
 *
 * Notation: n rows, i and o inputs and outputs of a layer.
 */
#include "adamw.h"

/* A tile is ROWS rows of weights by WIDE columns. The weights AHEAD columns further are fetched
 * meanwhile: with the processor's own prefetching alone a step takes a fifth to a third longer. */
enum { WIDE = VECTORS * LANES, AHEAD = 256 };

/* ROWS sums over k of products a[k] x[k]. */
typedef struct {
    int64_t n, width;
    const float *const *x;   /* [n][width] */
    const float *a;          /* [n, ROWS] */
    const uint32_t *x_pairs; /* x as bfloat16, two k in a word: [(n + 1) / 2, width] and padding */
    const int32_t *a_pairs;  /* a likewise: [(n + 1) / 2, ROWS] */
} products;

/* Fetches WIDE weights of a layer and their moments from index `at` on into the cache. */
static inline void fetch(const layer *l, int64_t at, const int is_short) {
    for (int64_t i = at; i < at + WIDE; i += 16) {
        __builtin_prefetch(l->weight + i, 1, 2);
        if (is_short) {
            __builtin_prefetch(l->words + i, 1, 2);
        } else {
            __builtin_prefetch(l->mean + i, 1, 2);
            __builtin_prefetch(l->square + i, 1, 2);
        }
    }
}

/* Two floats as bfloat16 in one word, cut off instead of rounded; the first in the lower half. */
static inline uint32_t pair_of(float first, float second) {
    uint32_t low, high;
    memcpy(&low, &first, sizeof low);
    memcpy(&high, &second, sizeof high);
    return (low >> 16) | (high & 0xffff0000u);
}

/* The float rounded so that its upper half is the nearest bfloat16. */
static inline float rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1);
    memcpy(&value, &bits, sizeof bits);
    return value;
}

/* sum + products of pairs of bfloat16, where the processor has an instruction for that. */
#if defined(__AVX512BF16__)
enum { HAS_PAIR_PRODUCTS = 1 };
static inline lanes add_pairs(lanes sum, int32_t a, const uint32_t *x) {
    const __m512bh both = (__m512bh)_mm512_set1_epi32(a);
    return (lanes)_mm512_dpbf16_ps((__m512)sum, both, (__m512bh)_mm512_loadu_si512(x));
}
#else
enum { HAS_PAIR_PRODUCTS = 0 };
static inline lanes add_pairs(lanes sum, int32_t a, const uint32_t *x) {
    (void)a, (void)x;
    return sum;
}
#endif

/* Adds LANES weights p to the measure of a row's scale: the largest absolute values (compared as
 * whole numbers, see `absmax`) or the sums of absolute values, lane by lane. */
static inline void add_measure(lanes *so_far, lanes p, const int is_absmax) {
    const whole_lanes magnitude = (whole_lanes)p & 0x7fffffff;
    if (!is_absmax) {
        *so_far += (lanes)magnitude;
        return;
    }
#if defined(__AVX512F__)
    *so_far = (lanes)_mm512_max_epi32((__m512i)*so_far, (__m512i)magnitude);
#else
    whole_lanes most = (whole_lanes)*so_far;
    for (int i = 0; i < LANES; i++) most[i] = magnitude[i] > most[i] ? magnitude[i] : most[i];
    *so_far = (lanes)most;
#endif
}

/* WIDE columns of the sums, from `column` on. Meanwhile the tile of weights at index `then` is fetched,
 * one row for each k, unless `then` is below 0: otherwise memory and products would wait for each
 * other. */
static inline __attribute__((always_inline)) void add_up(const products *of, int64_t column,
                                                         lanes s[ROWS][VECTORS], const layer *l,
                                                         int64_t then, const int is_short,
                                                         const int is_paired) {
    const int64_t n = is_paired ? (of->n + 1) / 2 : of->n, fetched = then >= 0 ? ROWS : 0;
    EVERY_ROW EVERY_VECTOR s[r][v] = (lanes){0};
    int64_t k = 0;
    for (; k < n; k++) {
        if (k < fetched) fetch(l, then + k * of->width, is_short);
        if (is_paired) {
            const uint32_t *x = of->x_pairs + k * of->width + column;
            EVERY_ROW EVERY_VECTOR
                s[r][v] = add_pairs(s[r][v], of->a_pairs[k * ROWS + r], x + v * LANES);
        } else {
            const float *x = of->x[k] + column, *a = of->a + k * ROWS;
            EVERY_ROW EVERY_VECTOR s[r][v] += a[r] * *(const unaligned *)(x + v * LANES);
        }
    }
    for (; k < fetched; k++) fetch(l, then + k * of->width, is_short);
}

/* One element of the sums: row r, one column. */
static inline float add_up_one(const products *of, int64_t r, int64_t column) {
    float sum = 0.0f;
    for (int64_t k = 0; k < of->n; k++) sum += of->a[k * ROWS + r] * of->x[k][column];
    return sum;
}

/* Updates one tile of weights; `then` is the first weight of the tile to fetch. The measures of the
 * rows' scales are continued in `so_far`. */
static inline __attribute__((always_inline)) void update_tile(
    const layer *l, const products *of, int64_t at, int64_t column, int64_t then, int64_t n_rows,
    lanes *so_far, const factors *f, const int is_short, const int is_paired) {
    lanes s[ROWS][VECTORS];
    add_up(of, column, s, l, then, is_short, is_paired);
    EVERY_ROW if (r < n_rows) {
        const int64_t here = at + r * of->width;
        EVERY_VECTOR {
            const lanes p = update_lanes(l, here + v * LANES, s[r][v], f, is_short);
            add_measure(so_far + r, p, l->weights.is_absmax);
        }
    }
}

/* The same for the last columns, fewer than a tile has. */
static void update_rest(const layer *l, const products *of, int64_t at, int64_t column,
                        int64_t n_rows, lanes *so_far, const factors *f) {
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t first = column; first < of->width; first += LANES) {
            const int64_t left = of->width - first, count = left < LANES ? left : LANES;
            float gradient[LANES] = {0};
            for (int64_t i = 0; i < count; i++) gradient[i] = add_up_one(of, r, first + i);
            const lanes p = update_few(l, at + r * of->width + first, count, gradient, f);
            add_measure(so_far + r, p, l->weights.is_absmax);
        }
}

/* The measure of a whole row, from those of its lanes. */
static float measured(lanes so_far, const int is_absmax) {
    float values[LANES], sum = 0.0f;
    memcpy(values, &so_far, sizeof values);
    if (is_absmax) return absmax(LANES, values);
    for (int i = 0; i < LANES; i++) sum += values[i];
    return sum;
}

enum { FAR = 1 << 19 }; /* a layer of so many weights leaves the second-level cache during a step */

/* Scale and codes of one row of weights after its update. */
static void code_weights(const layer *l, int64_t row, float scale) {
    const int64_t width = l->n_inputs, at = row * width;
    const float *p = l->weight + at;
    const int is_far = l->n_outputs * width >= FAR;
    scale = stored_scale(scale, &l->weights);
    l->scale[row] = scale;
    if (l->in.narrow)
        l->code_sum[row] =
            narrow_codes(width, p, &l->weights, scale, (int8_t *)l->codes + at, is_far);
    else
        wide_codes(width, p, &l->weights, scale, (int16_t *)l->codes + at, is_far);
}

/* Updates ROWS rows of weights from `row` on, then their codes. */
static inline __attribute__((always_inline)) void update_rows(
    const layer *l, const products *of, int64_t row, const factors *f, const int is_short,
    const int is_paired) {
    const int64_t width = l->n_inputs, left = l->n_outputs - row, at = row * width;
    const int64_t n_rows = left < ROWS ? left : ROWS, tiled = width / WIDE * WIDE;
    lanes so_far[ROWS];
    EVERY_ROW so_far[r] = (lanes){0};
    for (int64_t column = 0; column < tiled; column += WIDE) {
        int64_t then = column + AHEAD;
        if (then + WIDE > width) then = left >= 2 * ROWS ? then - tiled + ROWS * width : -at - 1;
        update_tile(l, of, at + column, column, at + then, n_rows, so_far, f, is_short, is_paired);
    }
    update_rest(l, of, at, tiled, n_rows, so_far, f);
    if (!l->weights.highest) return;
    for (int64_t r = 0; r < n_rows; r++) {
        const float value = measured(so_far[r], l->weights.is_absmax);
        code_weights(l, row + r, scale_of(width, value, &l->weights));
    }
}

/* Rows x in pairs of bfloat16, [(n + 1) / 2, width]; is_exact: they are codes of up to 8 bits, which
 * need no rounding. */
static void pair_rows(int64_t n, int64_t width, const float *const *x, int is_exact,
                      uint32_t *restrict pairs) {
    for (int64_t k = 0; k < n; k += 2, pairs += width) {
        const float *first = x[k], *second = x[k + 1 < n ? k + 1 : k];
        if (is_exact)
            for (int64_t i = 0; i < width; i++) pairs[i] = pair_of(first[i], second[i]);
        else
            for (int64_t i = 0; i < width; i++)
                pairs[i] = pair_of(rounded(first[i]), rounded(second[i]));
    }
}

/* Factors a [n, ROWS] in pairs of bfloat16; the partner of an odd last row is 0. */
static void pair_factors(int64_t n, const float *restrict a, int32_t *restrict pairs) {
    for (int64_t k = 0; k < n; k += 2, a += 2 * ROWS, pairs += ROWS)
        for (int64_t r = 0; r < ROWS; r++)
            pairs[r] = (int32_t)pair_of(rounded(a[r]), k + 1 < n ? rounded(a[ROWS + r]) : 0.0f);
}

/* Updates a layer and its codes, given the gradient g [n, o] of its outputs.
 * x: rows of inputs; input_scale: the value of one code of each. Work space: a [2 n, ROWS], and pairs
 * [(n + 1) / 2, i] with WIDE words more. */
static void update_layer(const layer *l, int64_t n, const float *const *x,
                         const float *input_scale, const float *restrict g, float *restrict a,
                         uint32_t *restrict pairs, const adamw *options) {
    const int64_t width = l->n_inputs, o = l->n_outputs;
    const factors f = factors_of(options);
    const int is_paired = HAS_PAIR_PRODUCTS && l->words;
    int32_t *a_pairs = (int32_t *)(a + n * ROWS);
    const products of = {n, width, x, a, pairs, a_pairs};
    if (is_paired) pair_rows(n, width, x, l->in.narrow != NULL, pairs);
    for (int64_t r = 0; r < o; r += ROWS) {
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < ROWS; j++)
                a[k * ROWS + j] = r + j < o ? g[k * o + r + j] * input_scale[k] : 0.0f;
        if (is_paired) {
            pair_factors(n, a, a_pairs);
            update_rows(l, &of, r, &f, 1, 1);
        } else if (l->words) {
            update_rows(l, &of, r, &f, 1, 0);
        } else {
            update_rows(l, &of, r, &f, 0, 0);
        }
    }
    update_bias(l, n, g, &f);
}

/* n_rows rows of dx, at most ROWS. */
static inline __attribute__((always_inline)) void multiply_rows(const products *of, int64_t n_rows,
                                                                float *restrict dx,
                                                                const int is_paired) {
    int64_t i = 0;
    for (; i + WIDE <= of->width; i += WIDE) {
        lanes s[ROWS][VECTORS];
        add_up(of, i, s, NULL, -1, 0, is_paired);
        EVERY_ROW if (r < n_rows) {
            EVERY_VECTOR *(unaligned *)(dx + r * of->width + i + v * LANES) = s[r][v];
        }
    }
    for (; i < of->width; i++)
        for (int64_t r = 0; r < n_rows; r++) dx[r * of->width + i] = add_up_one(of, r, i);
}

/* Gradient dx [n, i] of a layer's inputs, given the gradient g [n, o] of its outputs.
 * Work space: w [o, i], rows [o], a [2 o, ROWS], and pairs [(o + 1) / 2, i] with WIDE words more. */
static void multiply_back(const layer *l, int64_t n, const float *restrict g, float *restrict w,
                          const float **restrict rows, float *restrict a,
                          uint32_t *restrict pairs, float *restrict dx) {
    const int64_t width = l->n_inputs, o = l->n_outputs;
    const int8_t *restrict narrow = l->codes;
    const int16_t *restrict wide = l->codes;
    const int is_paired = HAS_PAIR_PRODUCTS && l->words;
    int32_t *a_pairs = (int32_t *)(a + o * ROWS);
    const products of = {o, width, rows, a, pairs, a_pairs};
    for (int64_t r = 0; r < o; r++) rows[r] = (l->weights.highest ? w : l->weight) + r * width;
    if (l->weights.highest && l->in.narrow)
        for (int64_t i = 0; i < o * width; i++) w[i] = narrow[i];
    else if (l->weights.highest)
        for (int64_t i = 0; i < o * width; i++) w[i] = wide[i];
    if (is_paired) pair_rows(o, width, rows, l->in.narrow != NULL, pairs);
    for (int64_t k = 0; k < n; k += ROWS) {
        const int64_t n_rows = n - k < ROWS ? n - k : ROWS;
        for (int64_t r = 0; r < o; r++) {
            const float scale = l->weights.highest ? l->scale[r] / l->weights.denominator : 1.0f;
            for (int64_t j = 0; j < ROWS; j++)
                a[r * ROWS + j] = j < n_rows ? g[(k + j) * o + r] * scale : 0.0f;
        }
        if (is_paired) {
            pair_factors(o, a, a_pairs);
            multiply_rows(&of, n_rows, dx + k * width, 1);
        } else {
            multiply_rows(&of, n_rows, dx + k * width, 0);
        }
    }
}

/* Turns the gradient g [n, i] of a later layer's inputs into that of the outputs of the layer before:
 * backwards through dropout, ReLU and standardisation. */
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
