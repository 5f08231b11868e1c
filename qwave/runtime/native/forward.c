/* Predictions of one network: raw clips in, logits or probabilities out, in one call.
 *
 * The arithmetic is that of arithmetic.py, operation by operation: sums of codes are whole numbers,
 * means and deviations are computed in double, everything else is rounded to float where numpy rounds
 * it. The two differ only in the order of sums of doubles, which sometimes changes a last bit.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FLOATS, BYTES, TRITS }; /* how a layer's products are computed */
enum { ROOTS, STANDARDISE, UNIT }; /* steps of a normalisation, for each clip */
enum { CLIPS = 64 };           /* at a time: their values stay in the cache */
enum { LINE = 64 };            /* bytes of a vector; rows of codes are padded to it with zeros */
enum { OFFSET = 128 };         /* of codes that are stored as unsigned bytes */

typedef struct {
    int64_t n_in, n_out, kind;
    const void *weights; /* FLOATS: float [n_out, n_in]. BYTES: uint8 [n_out, padded n_in].
                            TRITS: which are not zero, then which are negative, a bit each,
                            [n_out, 2, bit_bytes(n_in)] */
    const float *scale;  /* scale over denominator of the weights' grid, [n_out]; NULL: floats */
    const float *bias;   /* [n_out] */
    int64_t is_mean;     /* a sample's scale is its mean absolute value, not its largest */
    float scale_factor, smallest_scale, highest, denominator; /* of the grid of activations */
} layer;

typedef struct {
    int64_t n_features, n_steps;
    const int64_t *steps; /* of the normalisation, in their order */
    float epsilon, hidden_epsilon;
    const float *offset, *factor; /* of each feature, or NULL */
    int64_t n_layers, widest;     /* widest input or output */
    const layer *layers;
} network;

typedef struct { /* work space of a batch */
    float *here, *there; /* inputs and outputs of a layer, [clips, its width] */
    int8_t *codes;       /* [clips, padded n_in] */
    uint64_t *bits;      /* [clips, 2, bit_bytes(n_in) / 8] */
    float *factor;       /* of each clip's codes */
    int32_t *sum;        /* of each clip's codes */
} room;

/* compiled.py mirrors these two, and compares their sizes when the library is loaded. */
const int64_t qwave_size_of_layer = sizeof(layer), qwave_size_of_network = sizeof(network);

static int64_t padded(int64_t n) { return (n + LINE - 1) / LINE * LINE; }

/* Bytes of a row of bits: whole vectors. */
static int64_t bit_bytes(int64_t n) { return padded((n + 7) / 8); }

static int is_finite(const float *x, int64_t n) {
    int32_t n_bad = 0;
    for (int64_t i = 0; i < n; i++) n_bad += !(fabsf(x[i]) <= FLT_MAX);
    return n_bad == 0;
}

/* Values with mean 0 and deviation 1. `added` (to the variance) or `least` (of the deviation) prevents
 * a division by zero for constant values. */
static void standardise(const float *x, float *to, int64_t n, double added, double least) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    const double mean = sum / n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    const double deviation = sqrt(squares / n + added);
    const double spread = deviation > least ? deviation : least;
    const double by = 1 / spread; /* differs from a quotient in the last bit of a double */
    for (int64_t i = 0; i < n; i++) to[i] = (float)((x[i] - mean) * by);
}

static void normalise(const network *net, const float *x, float *to) {
    const int64_t n = net->n_features;
    memcpy(to, x, n * sizeof *to);
    for (int64_t k = 0; k < net->n_steps; k++) {
        if (net->steps[k] == ROOTS)
            for (int64_t i = 0; i < n; i++) to[i] = copysignf(sqrtf(fabsf(to[i])), to[i]);
        if (net->steps[k] == STANDARDISE) standardise(to, to, n, 0, net->epsilon);
        if (net->steps[k] == UNIT) {
            double squares = 0;
            for (int64_t i = 0; i < n; i++) squares += (double)to[i] * to[i];
            const double norm = sqrt(squares) > net->epsilon ? sqrt(squares) : net->epsilon;
            for (int64_t i = 0; i < n; i++) to[i] = (float)(to[i] / norm);
        }
    }
    if (net->factor != NULL)
        for (int64_t i = 0; i < n; i++) to[i] = (to[i] - net->offset[i]) * net->factor[i];
}

/* A sample's codes and their sum; returns the value of one code. */
static float quantise(const layer *l, const float *x, int8_t *codes, int32_t *sum) {
    float measured = 0;
    if (l->is_mean) {
        double total = 0;
        for (int64_t i = 0; i < l->n_in; i++) total += fabsf(x[i]);
        measured = (float)(total / l->n_in);
    } else {
        for (int64_t i = 0; i < l->n_in; i++) measured = fabsf(x[i]) > measured ? fabsf(x[i]) : measured;
    }
    float scale = measured * l->scale_factor;
    scale = scale > l->smallest_scale ? scale : l->smallest_scale;
    const float by = l->denominator / scale, highest = l->highest;
    int32_t total = 0;
    for (int64_t i = 0; i < l->n_in; i++) {
        float code = rintf(x[i] * by);
        code = code < highest ? code : highest;
        code = code > -highest ? code : -highest;
        codes[i] = (int8_t)code;
        total += codes[i];
    }
    *sum = total;
    return scale / l->denominator;
}

/* The lowest bits of eight bytes as one byte, the first one lowest. */
static uint8_t gathered(uint64_t bytes) {
    return (uint8_t)(((bytes & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
}

/* Codes -1, 0, 1 as two rows of bits, padded with zeros: which are not 0, and which are negative. */
static void to_bits(const int8_t *codes, int64_t n, uint64_t *bits) {
    uint8_t *is_used = (uint8_t *)bits, *is_negative = is_used + bit_bytes(n);
    memset(bits, 0, 2 * bit_bytes(n));
    for (int64_t i = 0; i < padded(n) / 8; i++) {
        uint64_t eight;
        memcpy(&eight, codes + 8 * i, 8);
        is_used[i] = gathered(eight);
        is_negative[i] = gathered(eight >> 7);
    }
}

/* Products are computed for ROWS rows of weights at a time, so that their sums do not wait for each
 * other. Beyond the last row the last row is used again, and its sum is dropped.
 *
 * Not inlined: GCC 12 would multiply bytes two at a time instead of four.
 */
enum { ROWS = 4, TOGETHER = 4 };
#define NOT_INLINED __attribute__((noinline))

static int64_t row_at(const layer *l, int64_t o, int64_t k) {
    return o + k < l->n_out ? o + k : l->n_out - 1;
}

static int64_t rows_at(const layer *l, int64_t o) { return l->n_out - o < ROWS ? l->n_out - o : ROWS; }

NOT_INLINED static void dot_floats(const float *const rows[ROWS], const float *restrict x, int64_t n,
                                   float *restrict sums) {
    const float *restrict w[ROWS] = {rows[0], rows[1], rows[2], rows[3]};
    float s[ROWS] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < ROWS; k++) s[k] += w[k][i] * x[i];
    memcpy(sums, s, sizeof s);
}

static void multiply_floats(const layer *l, const float *x, int64_t clips, float *y) {
    for (int64_t o = 0; o < l->n_out; o += ROWS) {
        const float *w[ROWS];
        for (int64_t k = 0; k < ROWS; k++) w[k] = (const float *)l->weights + row_at(l, o, k) * l->n_in;
        for (int64_t c = 0; c < clips; c++) {
            float sums[ROWS];
            dot_floats(w, x + c * l->n_in, l->n_in, sums);
            memcpy(y + c * l->n_out + o, sums, rows_at(l, o) * sizeof *y);
        }
    }
}

/* Unsigned times signed bytes, which processors multiply four at a time; the sums are exact. */
NOT_INLINED static void dot_bytes(const uint8_t *const rows[ROWS], const int8_t *restrict x, int64_t n,
                                  int32_t *restrict sums) {
    const uint8_t *restrict w[ROWS] = {rows[0], rows[1], rows[2], rows[3]};
    int32_t s[ROWS] = {0};
    for (int64_t i = 0; i < n / LINE * LINE; i++)
        for (int k = 0; k < ROWS; k++) s[k] += w[k][i] * x[i];
    memcpy(sums, s, sizeof s);
}

/* Sums of TOGETHER clips, [clips, ROWS]: a third faster, because loaded weights serve all clips. */
NOT_INLINED static void dot_bytes_together(const uint8_t *const rows[ROWS], const int8_t *restrict x,
                                           int64_t n, int32_t *restrict sums) {
    const uint8_t *restrict w[ROWS] = {rows[0], rows[1], rows[2], rows[3]};
    const int8_t *restrict v[TOGETHER] = {x, x + n, x + 2 * n, x + 3 * n};
    int32_t s[TOGETHER][ROWS] = {{0}};
    for (int64_t i = 0; i < n / LINE * LINE; i++)
        for (int c = 0; c < TOGETHER; c++)
            for (int k = 0; k < ROWS; k++) s[c][k] += w[k][i] * v[c][i];
    memcpy(sums, s, sizeof s);
}

static void multiply_bytes(const layer *l, const room *r, int64_t clips, float *y) {
    const int64_t n = padded(l->n_in);
    for (int64_t o = 0; o < l->n_out; o += ROWS) {
        const uint8_t *w[ROWS];
        for (int64_t k = 0; k < ROWS; k++) w[k] = (const uint8_t *)l->weights + row_at(l, o, k) * n;
        for (int64_t first = 0, n_now; first < clips; first += n_now) {
            int32_t sums[TOGETHER][ROWS];
            n_now = clips - first < TOGETHER ? 1 : TOGETHER;
            if (n_now == 1) dot_bytes(w, r->codes + first * n, n, sums[0]);
            else dot_bytes_together(w, r->codes + first * n, n, sums[0]);
            for (int64_t c = 0; c < n_now; c++)
                for (int64_t k = 0; k < rows_at(l, o); k++)
                    y[(first + c) * l->n_out + o + k] =
                        (float)(sums[c][k] - OFFSET * r->sum[first + c]);
        }
    }
}

/* Where both codes are not 0, a product is 1, or -1 where one of them is negative. */
static int64_t dot_trits(const uint64_t *restrict w, const uint64_t *restrict x, int64_t n_lines) {
    const int64_t n = LINE / 8 * n_lines;
    const uint64_t *w_negative = w + n, *x_negative = x + n;
    int64_t n_used = 0, n_negative = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t used = w[i] & x[i];
        n_used += __builtin_popcountll(used);
        n_negative += __builtin_popcountll(used & (w_negative[i] ^ x_negative[i]));
    }
    return n_used - 2 * n_negative;
}

static void multiply_trits(const layer *l, const room *r, int64_t clips, float *y) {
    const int64_t width = bit_bytes(l->n_in), row = 2 * width / 8;
    const uint64_t *w = l->weights;
    for (int64_t o = 0; o < l->n_out; o++, w += row)
        for (int64_t c = 0; c < clips; c++)
            y[c * l->n_out + o] = (float)dot_trits(w, r->bits + c * row, width / LINE);
}

/* Outputs y [clips, n_out] of one layer for its inputs x [clips, n_in]. */
static void apply(const layer *l, const room *r, const float *x, int64_t clips, float *y) {
    const int64_t width = padded(l->n_in);
    if (l->kind == FLOATS) {
        multiply_floats(l, x, clips, y);
    } else {
        for (int64_t c = 0; c < clips; c++) {
            int8_t *codes = r->codes + c * width;
            memset(codes + l->n_in, 0, width - l->n_in);
            r->factor[c] = quantise(l, x + c * l->n_in, codes, r->sum + c);
            if (l->kind == TRITS) to_bits(codes, l->n_in, r->bits + c * bit_bytes(l->n_in) / 4);
        }
        if (l->kind == TRITS) multiply_trits(l, r, clips, y);
        else multiply_bytes(l, r, clips, y);
    }
    for (int64_t c = 0; c < clips; c++, y += l->n_out) {
        if (l->scale != NULL)
            for (int64_t o = 0; o < l->n_out; o++) y[o] *= l->scale[o];
        if (l->kind != FLOATS)
            for (int64_t o = 0; o < l->n_out; o++) y[o] *= r->factor[c];
        for (int64_t o = 0; o < l->n_out; o++) y[o] += l->bias[o];
    }
}

static void softmax(float *y, int64_t n) {
    float highest = y[0], sum = 0;
    for (int64_t i = 1; i < n; i++) highest = y[i] > highest ? y[i] : highest;
    for (int64_t i = 0; i < n; i++) sum += y[i] = expf(y[i] - highest);
    for (int64_t i = 0; i < n; i++) y[i] /= sum;
}

/* All layers, for the batch in r->here: under the masks of one sample, or without masks. */
static void forward(const network *net, room *r, int64_t clips, const float *const *masks,
                    int64_t sample, float *out) {
    for (int64_t k = 0; k < net->n_layers; k++) {
        const layer *l = net->layers + k;
        for (int64_t c = 0; c < clips; c++) {
            float *h = r->here + c * l->n_in;
            if (k > 0) {
                standardise(h, h, l->n_in, net->hidden_epsilon, 0);
                for (int64_t i = 0; i < l->n_in; i++) h[i] = h[i] > 0 ? h[i] : 0;
            }
            if (masks != NULL) {
                const float *mask = masks[k] + sample * l->n_in;
                for (int64_t i = 0; i < l->n_in; i++) h[i] *= mask[i];
            }
        }
        apply(l, r, r->here, clips, k + 1 == net->n_layers ? out : r->there);
        float *was_here = r->here;
        r->here = r->there;
        r->there = was_here;
    }
}

/* Predicts clips x [n, features]; writes out [n, classes], or with masks ([samples, n_in] for each
 * layer) out [samples, n, classes]. Returns 0, or -1 if there is no memory, or k if clip k - 1 is not
 * finite. */
int64_t qwave_forward(const network *net, const float *x, int64_t n, const float *const *masks,
                      int64_t n_samples, int64_t is_softmax, float *out) {
    const int64_t most = n < CLIPS ? n : CLIPS, widest = padded(net->widest);
    const int64_t n_classes = net->layers[net->n_layers - 1].n_out;
    const size_t floats = most * widest * sizeof(float), bits = most * 2 * bit_bytes(widest);
    char *const memory = malloc(3 * floats + most * widest + bits + most * 2 * sizeof(float) + 1);
    if (memory == NULL) return -1;
    float *const normalised = (float *)memory;
    room r = {.here = (float *)(memory + floats),
              .there = (float *)(memory + 2 * floats),
              .bits = (uint64_t *)(memory + 3 * floats),
              .codes = (int8_t *)(memory + 3 * floats + bits)};
    r.factor = (float *)(r.codes + most * widest);
    r.sum = (int32_t *)(r.factor + most);
    int64_t failed = 0;
    for (int64_t first = 0; first < n && !failed; first += CLIPS) {
        const int64_t clips = n - first < CLIPS ? n - first : CLIPS, d = net->n_features;
        for (int64_t c = 0; c < clips && !failed; c++) {
            if (!is_finite(x + (first + c) * d, d)) failed = first + c + 1;
            normalise(net, x + (first + c) * d, normalised + c * d);
        }
        for (int64_t s = 0; s < n_samples && !failed; s++) {
            float *to = out + (s * n + first) * n_classes;
            memcpy(r.here, normalised, clips * d * sizeof(float));
            forward(net, &r, clips, masks, s, to);
            for (int64_t c = 0; c < clips && is_softmax; c++) softmax(to + c * n_classes, n_classes);
        }
    }
    free(memory);
    return failed;
}
