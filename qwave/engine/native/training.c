/* Training and prediction of one fold's mixture on one core: routing, loss, and the loop over steps.
 *
 * The arithmetic is that of qwave.nn.mixture, qwave.engine.stacked and torch.optim.AdamW, with sums
 * taken in another order; the tests compare with those. structures.py mirrors the structures.
 *
 * A step is one optimiser step: one batch forward and backward, and the update of all parameters.
 * Steps count from 1. Step 0 stands for a prediction, in which nothing is dropped.
 *
 * Notation: n clips of a batch (those that are not padding), e experts, c classes, k experts that
 * each clip is sent to. The row of a clip is its row in the batch, padding included.
 */
#include <stdlib.h>

#include "updates.h"

typedef struct {
    int64_t n_layers;
    const layer *layers;
} network;

typedef struct { /* how the inputs of first layers are computed from clips */
    mask mask;
    grid activations;
    inputs to;
} source;

typedef struct {
    int64_t n_features, n_classes, n_experts, top_k;
    int64_t n_rows; /* rows of a batch, padding included */
    const network *experts;
    network router; /* has no layers where there is a single expert */
    int64_t n_sources;
    const source *sources;
    const float *x;               /* all clips, [clips, n_features] */
    const float *offset, *factor; /* of each feature, or NULL */
    float balance_weight;
    uint64_t seed; /* of the dropout masks */
} fold;

typedef struct { /* batches, one after another */
    const int64_t *rows;     /* clips, [steps, n_rows]; below 0: padding */
    const int64_t *partners; /* the clips that these are mixed with, [steps, n_rows]; or NULL */
    const float *shares;     /* the share of the first clip in the mixture, [steps, n_rows] */
    const float *targets;    /* probabilities, [steps, n_rows, c] */
    const float *weights;    /* of each clip in the loss, [steps, n_rows] */
} examples;

typedef struct { /* work space of one batch */
    int64_t n, *batch_rows;   /* rows of the n clips in the batch, [n] */
    int64_t *starts;          /* [e + 1]: expert j computes sent[starts[j]] to sent[starts[j + 1] - 1] */
    int64_t *sent, *clip;     /* rows of the clips sent, and their numbers among the n: [n k] */
    float *gates;             /* [n k] */
    float *probabilities;     /* [n, e] */
    float *choice;            /* gates of all experts, 0 where a clip is not sent, [n, e] */
    float *parts, *d_parts;   /* [n k, c]: logits of each expert, and their gradient */
    float *logits, *d_logits; /* [n, c] */
    float *d_scores;          /* [n, e] */
    const float **x;          /* [n] */
    float *input_scale;       /* [n]: of the codes of a layer's inputs */
    float *a;                 /* [2 (n or widest), ROWS]: see updates.h, as for pairs */
    uint32_t *pairs;          /* [(n + 1) / 2, widest or features] or of later layers, and WIDE */
    float *here, *below;      /* [n, widest] */
    float *weights;           /* of the largest later layer, as floats */
    const float **rows;       /* [widest] */
    float *row;               /* [widest or features] */
    uint32_t *bits;           /* [widest or features] */
    void *memory;
} batch;

enum { LINE = 64 }; /* bytes */

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* The most outputs of a layer, and the most weights of a later layer, of a network and before. */
static void measure_network(const network *net, int64_t *widest, int64_t *largest) {
    for (int64_t l = 0; l < net->n_layers; l++) {
        const layer *of = net->layers + l;
        *widest = larger(*widest, of->n_outputs);
        if (l > 0) *largest = larger(*largest, of->n_inputs * of->n_outputs);
    }
}

/* Points the arrays of a batch into `memory`, one after another; returns the bytes that they take.
 * Arrays begin at cache lines: vectors that cross two lines are loaded at half the speed. */
static size_t lay_out(const fold *f, char *memory, batch *b) {
    const int64_t n = f->n_rows, e = f->n_experts, c = f->n_classes, sent = n * f->top_k;
    int64_t widest = 1, largest = 0;
    measure_network(&f->router, &widest, &largest);
    for (int64_t j = 0; j < e; j++) measure_network(&f->experts[j], &widest, &largest);
    const int64_t row = larger(widest, f->n_features);
    size_t used = 0;
#define TAKE(NAME, COUNT)                                                                     \
    b->NAME = (void *)(memory + used);                                                        \
    used += ((size_t)(COUNT) * sizeof *b->NAME + LINE - 1) / LINE * LINE;
    TAKE(batch_rows, n)
    TAKE(starts, e + 1)
    TAKE(sent, sent)
    TAKE(clip, sent)
    TAKE(gates, sent)
    TAKE(probabilities, n * e)
    TAKE(choice, n * e)
    TAKE(parts, sent * c)
    TAKE(d_parts, sent * c)
    TAKE(logits, n * c)
    TAKE(d_logits, n * c)
    TAKE(d_scores, n * e)
    TAKE(x, n)
    TAKE(rows, widest)
    TAKE(input_scale, n)
    TAKE(a, 2 * larger(n, widest) * ROWS)
    TAKE(pairs, larger((n + 1) / 2 * row, largest) + WIDE)
    TAKE(here, n * widest)
    TAKE(below, n * widest)
    TAKE(weights, largest)
    TAKE(row, row)
    TAKE(bits, row)
#undef TAKE
    return used;
}

/* Allocates a batch; returns 0, or 1 if there is no memory. */
static int make_batch(const fold *f, batch *b) {
    b->memory = aligned_alloc(LINE, lay_out(f, NULL, b));
    if (b->memory) lay_out(f, b->memory, b);
    return b->memory == NULL;
}

/* Features [d] of the clip in row `row`: mixed with its partner, then normalised. */
static void blend(const fold *f, const examples *of, int64_t row, float *restrict values) {
    const int64_t d = f->n_features;
    const float *x = f->x + of->rows[row] * d;
    memcpy(values, x, (size_t)d * sizeof *x);
    if (of->partners && of->shares[row] != 1.0f) {
        const float *other = f->x + of->partners[row] * d, share = of->shares[row];
        for (int64_t i = 0; i < d; i++) values[i] = other[i] + share * (x[i] - other[i]);
    }
    if (f->offset)
        for (int64_t i = 0; i < d; i++) values[i] = (values[i] - f->offset[i]) * f->factor[i];
}

/* Inputs of first layers, from the clips of a batch. */
static void take(const fold *f, int64_t step, const examples *given, batch *b) {
    const int64_t d = f->n_features;
    b->n = 0;
    for (int64_t row = 0; row < f->n_rows; row++)
        if (given->rows[row] >= 0) b->batch_rows[b->n++] = row;
    for (int64_t s = 0; s < f->n_sources; s++) {
        const source *of = f->sources + s;
        const int is_masked = step && of->mask.slot >= 0;
        const uint64_t key = is_masked ? mask_key(f->seed, step, of->mask.slot) : 0;
        for (int64_t k = 0; k < b->n; k++) {
            const int64_t row = b->batch_rows[k];
            float *values = of->to.values + row * d;
            blend(f, given, row, values);
            if (is_masked) {
                draw_row(d, &of->mask, key, row, b->bits, b->row);
                for (int64_t i = 0; i < d; i++) values[i] *= b->row[i];
            }
            encode_row(d, &of->activations, of->to, row);
        }
    }
}

/* Outputs [n, outputs] of a network for the clips in these rows of the batch. */
static void forward(const fold *f, const network *net, int64_t step, int64_t n,
                    const int64_t *batch_rows, batch *b, float *out) {
    const layer *l = net->layers, *last = l + net->n_layers - 1;
    for (const layer *first = l; l < last; l++) {
        const int32_t slot = l[1].mask.slot;
        multiply(l, n, l == first ? batch_rows : NULL, b->here);
        activate(l + 1, n, batch_rows, step ? mask_key(f->seed, step, slot) : 0, b->bits, b->here);
    }
    multiply(last, n, net->n_layers > 1 ? NULL : batch_rows, out);
}

/* Updates a network, given the gradient g [n, outputs] of what `forward` returned. */
static void update(const network *net, int64_t n, const int64_t *batch_rows, const float *g, batch *b,
                 const adamw *options) {
    const layer *first = net->layers, *l = first + net->n_layers - 1;
    float *here = b->here, *below = b->below;
    memcpy(here, g, (size_t)(n * l->n_outputs) * sizeof *g);
    for (; l >= first; l--) {
        for (int64_t k = 0; k < n; k++) {
            const int64_t row = l == first ? batch_rows[k] : k;
            b->x[k] = l->in.values + row * l->n_inputs;
            b->input_scale[k] = l->activations.highest ? l->in.scale[row] : 1.0f;
        }
        if (l > first) multiply_back(l, n, here, b->weights, b->rows, b->a, b->pairs, below);
        update_layer(l, n, b->x, b->input_scale, here, b->a, b->pairs, options);
        if (l > first) {
            activate_back(l, n, below);
            float *other = here;
            here = below;
            below = other;
        }
    }
}

static void softmax(int64_t n, const float *scores, float *out) {
    float most = scores[0], sum = 0.0f;
    for (int64_t i = 1; i < n; i++) most = scores[i] > most ? scores[i] : most;
    for (int64_t i = 0; i < n; i++) sum += out[i] = expf(scores[i] - most);
    for (int64_t i = 0; i < n; i++) out[i] /= sum;
}

/* Sends each clip to its k likeliest experts; among equal ones the first is taken. An expert whose
 * gate has underflown to 0 gets nothing. */
static void route(const fold *f, int64_t step, batch *b) {
    const int64_t e = f->n_experts, top_k = f->top_k;
    b->starts[0] = 0;
    if (e == 1) {
        for (int64_t k = 0; k < b->n; k++) {
            b->sent[k] = b->batch_rows[k];
            b->clip[k] = k;
            b->gates[k] = 1.0f;
        }
        b->starts[1] = b->n;
        return;
    }
    float *gates = b->choice;
    forward(f, &f->router, step, b->n, b->batch_rows, b, gates);
    for (int64_t k = 0; k < b->n; k++) {
        float *p = b->probabilities + k * e, *gate = gates + k * e, sum = 0.0f;
        softmax(e, gate, p);
        memset(gate, 0, (size_t)e * sizeof *gate);
        for (int64_t i = 0; i < top_k; i++) {
            int64_t best = -1;
            for (int64_t j = 0; j < e; j++)
                if (gate[j] == 0.0f && (best < 0 || p[j] > p[best])) best = j;
            gate[best] = 1.0f;
            sum += p[best];
        }
        for (int64_t j = 0; j < e; j++)
            if (gate[j] != 0.0f) gate[j] = top_k == 1 ? 1.0f : p[j] / sum;
    }
    for (int64_t j = 0, at = 0; j < e; j++) {
        for (int64_t k = 0; k < b->n; k++)
            if (gates[k * e + j] != 0.0f) {
                b->sent[at] = b->batch_rows[k];
                b->clip[at] = k;
                b->gates[at++] = gates[k * e + j];
            }
        b->starts[j + 1] = at;
    }
}

/* Logits of the mixture: outputs of the chosen experts, weighed by their gates. */
static void mix(const fold *f, int64_t step, batch *b) {
    const int64_t c = f->n_classes;
    memset(b->logits, 0, (size_t)(b->n * c) * sizeof *b->logits);
    for (int64_t j = 0; j < f->n_experts; j++)
        forward(f, &f->experts[j], step, b->starts[j + 1] - b->starts[j], b->sent + b->starts[j], b,
                b->parts + b->starts[j] * c);
    for (int64_t at = 0; at < b->starts[f->n_experts]; at++)
        for (int64_t i = 0; i < c; i++)
            b->logits[b->clip[at] * c + i] += b->gates[at] * b->parts[at * c + i];
}

/* Weighted cross-entropy with the targets of a batch; its gradient is written to d_logits. */
static float cross_entropy(const fold *f, const examples *given, batch *b) {
    const int64_t c = f->n_classes;
    float total = 0.0f, loss = 0.0f;
    for (int64_t k = 0; k < b->n; k++) total += given->weights[b->batch_rows[k]];
    for (int64_t k = 0; k < b->n; k++) {
        const float weight = given->weights[b->batch_rows[k]] / total;
        const float *logits = b->logits + k * c, *target = given->targets + b->batch_rows[k] * c;
        float *d = b->d_logits + k * c, most = logits[0], sum = 0.0f, agreement = 0.0f;
        for (int64_t i = 0; i < c; i++) most = logits[i] > most ? logits[i] : most;
        for (int64_t i = 0; i < c; i++) {
            sum += d[i] = expf(logits[i] - most);
            agreement += target[i] * (logits[i] - most);
        }
        loss -= weight * (agreement - logf(sum));
        for (int64_t i = 0; i < c; i++) d[i] = weight * (d[i] / sum - target[i]);
    }
    return loss;
}

/* Load-balancing loss of Switch (arXiv 2101.03961, eq. 4), times its weight. Its gradient with regard
 * to the probabilities is the same for all clips, [e]. */
static float balance(const fold *f, const batch *b, float *gradient) {
    const int64_t e = f->n_experts;
    float loss = 0.0f;
    for (int64_t j = 0; j < e; j++) {
        float mean = 0.0f;
        for (int64_t k = 0; k < b->n; k++) mean += b->probabilities[k * e + j];
        const float share =
            (float)(b->starts[j + 1] - b->starts[j]) / (float)larger(b->starts[e], 1);
        gradient[j] = f->balance_weight * (float)e * share / (float)larger(b->n, 1);
        loss += gradient[j] * mean;
    }
    return loss;
}

/* Gradients of the experts' outputs and of the router's logits, given d_logits; returns the
 * load-balancing loss. */
static float route_back(const fold *f, batch *b) {
    const int64_t e = f->n_experts, c = f->n_classes;
    memset(b->d_scores, 0, (size_t)(b->n * e) * sizeof *b->d_scores);
    for (int64_t j = 0; j < e; j++)
        for (int64_t at = b->starts[j]; at < b->starts[j + 1]; at++) {
            const float *d = b->d_logits + b->clip[at] * c, *part = b->parts + at * c;
            float d_gate = 0.0f;
            for (int64_t i = 0; i < c; i++) {
                b->d_parts[at * c + i] = b->gates[at] * d[i];
                d_gate += d[i] * part[i];
            }
            b->d_scores[b->clip[at] * e + j] = d_gate;
        }
    if (e == 1) return 0.0f;
    float by_expert[e];
    const float loss = balance(f, b, by_expert);
    for (int64_t k = 0; k < b->n; k++) {
        const float *p = b->probabilities + k * e, *gate = b->choice + k * e;
        float *d = b->d_scores + k * e, sum = 0.0f, along = 0.0f, inner = 0.0f;
        for (int64_t j = 0; j < e; j++) {
            sum += gate[j] > 0.0f ? p[j] : 0.0f;
            along += d[j] * gate[j];
        }
        for (int64_t j = 0; j < e; j++) {
            /* With k = 1 the gate is p / stop_gradient(p); else it is a share of the sum. */
            const float d_gate = f->top_k == 1 ? d[j] : d[j] - along;
            d[j] = (gate[j] > 0.0f ? d_gate / sum : 0.0f) + by_expert[j];
            inner += p[j] * d[j];
        }
        for (int64_t j = 0; j < e; j++) d[j] = p[j] * (d[j] - inner);
    }
    return loss;
}

/* Sizes of the structures that structures.py mirrors: it compares them when the library is loaded. */
#define SIZE_OF(NAME) const int64_t qwave_size_of_##NAME = sizeof(NAME);
SIZE_OF(adamw)
SIZE_OF(grid)
SIZE_OF(mask)
SIZE_OF(inputs)
SIZE_OF(layer)
SIZE_OF(network)
SIZE_OF(source)
SIZE_OF(fold)
SIZE_OF(examples)
#undef SIZE_OF

/* Whether this processor multiplies pairs of bfloat16, used together with bfloat16 moments. */
int qwave_has_bfloat16(void) { return HAS_PAIR_PRODUCTS; }

/* The batch of step s. */
static examples batch_of(const fold *f, const examples *all, int64_t s) {
    const int64_t first = s * f->n_rows;
    return (examples){all->rows + first, all->partners + first, all->shares + first,
                      all->targets + first * f->n_classes, all->weights + first};
}

/* Trains one fold for n_steps, with a batch and a learning rate for each step; writes the loss of
 * each batch before its update. Returns 0, or 1 if there is no memory. */
int qwave_train(const fold *f, int64_t first_step, int64_t n_steps, const examples *all,
                const float *learning_rates, const adamw *options, float *losses) {
    batch b;
    if (make_batch(f, &b)) return 1;
    for (int64_t s = 0; s < n_steps; s++) {
        const int64_t step = first_step + s;
        const examples given = batch_of(f, all, s);
        adamw o = *options;
        o.learning_rate = learning_rates[s];
        o.correction1 = (float)(1.0 - pow(o.beta1, (double)step));
        o.correction2 = (float)(1.0 - pow(o.beta2, (double)step));
        o.noise = (uint32_t)mix64((uint64_t)step);
        take(f, step, &given, &b);
        route(f, step, &b);
        mix(f, step, &b);
        losses[s] = cross_entropy(f, &given, &b) + route_back(f, &b);
        for (int64_t j = 0; j < f->n_experts; j++)
            update(&f->experts[j], b.starts[j + 1] - b.starts[j], b.sent + b.starts[j],
                 b.d_parts + b.starts[j] * f->n_classes, &b, &o);
        if (f->n_experts > 1) update(&f->router, b.n, b.batch_rows, b.d_scores, &b, &o);
    }
    free(b.memory);
    return 0;
}

/* Logits [n, c] of n clips, without dropout. Returns 0, or 1 if there is no memory. */
int qwave_predict(const fold *f, int64_t n, const int64_t *rows, float *logits) {
    batch b;
    if (make_batch(f, &b)) return 1;
    int64_t *part = malloc((size_t)f->n_rows * sizeof *part);
    for (int64_t at = 0; part && at < n; at += f->n_rows) {
        for (int64_t k = 0; k < f->n_rows; k++) part[k] = at + k < n ? rows[at + k] : -1;
        const examples given = {.rows = part};
        take(f, 0, &given, &b);
        route(f, 0, &b);
        mix(f, 0, &b);
        memcpy(logits + at * f->n_classes, b.logits, (size_t)(b.n * f->n_classes) * sizeof *logits);
    }
    const int failed = part == NULL;
    free(part);
    free(b.memory);
    return failed;
}
