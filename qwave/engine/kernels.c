/* An AdamW step of a weight matrix and the codes of its next forward pass, row by row: a row stays
 * in the first-level cache between the two, so that weights and moments cross the memory bus once.
 *
 * The arithmetic is that of torch.optim.AdamW and of qwave.quant; sums over a row are taken in
 * another order. The tests hold both against those.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    float learning_rate, weight_decay, beta1, beta2, epsilon;
    float correction1, correction2; /* 1 - beta^step */
} adamw;

typedef struct {
    int32_t spacing, highest; /* highest 0: no codes are wanted */
    int32_t is_absmax, is_int8;
    float denominator, scale_factor;
} grid;

static inline float from_bfloat16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

#define STEP(GRADIENT)                                                       \
    for (int64_t i = 0; i < width; i++) {                                    \
        float gradient = (GRADIENT);                                         \
        float mean = m[i] + (1.0f - o->beta1) * (gradient - m[i]);           \
        float square = o->beta2 * v[i] + (1.0f - o->beta2) * gradient * gradient; \
        m[i] = mean;                                                         \
        v[i] = square;                                                       \
        p[i] = p[i] * keep - step * mean / (sqrtf(square) * root + o->epsilon); \
    }

static void step_row(int64_t width, float *restrict p, const void *restrict g, int is_bfloat16,
                     float *restrict m, float *restrict v, const adamw *restrict o) {
    const float step = o->learning_rate / o->correction1;
    const float root = 1.0f / sqrtf(o->correction2);
    const float keep = 1.0f - o->learning_rate * o->weight_decay;
    const uint16_t *narrow = g;
    const float *wide = g;
    if (is_bfloat16) {
        STEP(from_bfloat16(narrow[i]))
    } else {
        STEP(wide[i])
    }
}

/* As whole numbers, magnitudes of floats stand in the same order, with NaN above all: the compiler
 * makes vectors of this, and not of a maximum of floats. */
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

static inline float within(float value, float top) {
    value = value > top ? top : value;
    return value < -top ? -top : value;
}

static float row_scale(int64_t width, const float *restrict p, const grid *restrict q) {
    float sum = 0.0f, most = 0.0f;
    if (q->is_absmax)
        most = absmax(width, p);
    else
        for (int64_t i = 0; i < width; i++) sum += fabsf(p[i]);
    float scale = (q->is_absmax ? most : sum / (float)width) * q->scale_factor;
    scale = fminf(fmaxf(scale, 0x1p-14f), 65504.0f);
    _Float16 half = (_Float16)scale;
    if (q->is_absmax && scale > (float)half * (1.0f + 0.5f / (float)q->highest)) {
        int16_t bits; /* the next float16: rounded down, the largest weight would be clipped */
        memcpy(&bits, &half, sizeof bits);
        bits++;
        memcpy(&half, &bits, sizeof bits);
    }
    return (float)half;
}

#define CODES(TYPE, OUT)                                                     \
    if (q->spacing == 1)                                                     \
        for (int64_t i = 0; i < width; i++)                                  \
            (OUT)[i] = (TYPE)within(nearbyintf(p[i] * factor), top);         \
    else                                                                     \
        for (int64_t i = 0; i < width; i++)                                  \
            (OUT)[i] = (TYPE)within(floorf(p[i] * factor * 0.5f) * 2.0f + 1.0f, top);

static float code_row(int64_t width, const float *restrict p, const grid *restrict q,
                      void *restrict codes) {
    const float scale = row_scale(width, p, q);
    const float factor = q->denominator / scale, top = (float)q->highest;
    int8_t *restrict narrow = codes;
    float *restrict wide = codes;
    if (q->is_int8) {
        CODES(int8_t, narrow)
    } else {
        CODES(float, wide)
    }
    return scale;
}

/* p, m, v [rows, width] are updated; codes [rows, width] and scale [rows] are written. */
void qwave_adamw(int64_t rows, int64_t width, float *p, const void *g, int is_bfloat16, float *m,
                 float *v, const adamw *o, const grid *q, void *codes, float *scale) {
    const int64_t gradient_bytes = is_bfloat16 ? 2 : 4;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * width;
        step_row(width, p + at, (const char *)g + at * gradient_bytes, is_bfloat16, m + at, v + at,
                 o);
        if (q->highest)
            scale[row] = code_row(width, p + at, q, (char *)codes + at * (q->is_int8 ? 1 : 4));
    }
}
