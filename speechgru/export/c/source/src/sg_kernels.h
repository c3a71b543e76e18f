/* Where the time goes: products of weights and activations.
 *
 * `sg_products` gives, for each output, the sum of `parts` products: of a row of weights with
 * `row` activations. The activations of the parts are `stride` apart, and have a scale each. Rows are
 * filled up with zeros to a multiple of SG_PADDING, and may read so many activations beyond the last
 * one. */
#ifndef SG_KERNELS_H
#define SG_KERNELS_H

#include <string.h>

#include "sg_internal.h"

#ifdef SG_FLOAT

/* Nothing to round: the copy has scale 1. */
static inline float sg_quantize(const float *x, int n, float *q)
{
    memcpy(q, x, sizeof *q * (size_t)n);
    return 1.0f;
}

/* Weights lie in tiles of SG_TILE outputs, filled up with zeros. The weights that a tile has for one
 * activation are neighbours: compilers keep the tile's sums in vectors. */
static inline void sg_products(
    const sg_matrix *matrix, const float *restrict x, int parts, int stride, const float *scales,
    float *restrict y)
{
    const float *restrict w = matrix->weights;
    int first, part, i, j;

    (void)scales;
    for (first = 0; first < matrix->outputs; first += SG_TILE) {
        float sums[SG_TILE] = {0};
        for (part = 0; part < parts; part++) {
            for (i = 0; i < matrix->row; i++, w += SG_TILE) {
                float activation = x[part * stride + i];
                for (j = 0; j < SG_TILE; j++) sums[j] += w[j] * activation;
            }
        }
        for (j = 0; j < SG_TILE; j++) y[first + j] = sums[j];
    }
}

#else

/* With 8-bit weights, activations are 16-bit integers with one scale for each vector, chosen so that
 * the largest becomes SG_ACTIVATION_MAX: sums then fit 32 bits whatever the activations are. */

/* 16-bit integers q and their scale s, so that s q is nearest to x. */
static inline float sg_quantize(const float *x, int n, int16_t *q)
{
    float largest = 0.0f, factor;
    int i;

    for (i = 0; i < n; i++) {
        float size = x[i] < 0.0f ? -x[i] : x[i];
        largest = size > largest ? size : largest;
    }
    if (largest < 1e-30f) {
        memset(q, 0, sizeof *q * (size_t)n);
        return 0.0f;
    }
    factor = SG_ACTIVATION_MAX / largest;
    for (i = 0; i < n; i++) {
        /* Truncation of positive numbers rounds halves up. */
        q[i] = (int16_t)((int32_t)(x[i] * factor + 32768.5f) - 32768);
    }
    return largest / SG_ACTIVATION_MAX;
}

/* Each four weights are in the order 0, 2, 1, 3: what one instruction of an ARM core with DSP
 * extension unpacks are then neighbours. */
#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#include <arm_acle.h>

static inline int32_t sg_dot_four(const int8_t *w, const int16_t *x, int32_t sum)
{
    uint32_t weights;
    int16x2_t first, second;

    memcpy(&weights, w, sizeof weights);
    memcpy(&first, x, sizeof first);
    memcpy(&second, x + 2, sizeof second);
    sum = __smlad(__sxtb16((int8x4_t)weights), first, sum);
    return __smlad(__sxtb16((int8x4_t)(weights >> 8)), second, sum);
}

static inline int32_t sg_dot(const int8_t *w, const int16_t *x, int n)
{
    int32_t sum = 0;

    for (; n >= 8; n -= 8, w += 8, x += 8) {
        sum = sg_dot_four(w, x, sum);
        sum = sg_dot_four(w + 4, x + 4, sum);
    }
    return n > 0 ? sg_dot_four(w, x, sum) : sum;
}

#else

static inline int32_t sg_dot(const int8_t *w, const int16_t *x, int n)
{
    int32_t sum = 0;
    int i;

    for (i = 0; i < n; i += 4) {
        sum += w[i] * x[i] + w[i + 1] * x[i + 2] + w[i + 2] * x[i + 1] + w[i + 3] * x[i + 3];
    }
    return sum;
}

#endif

static inline void sg_products(
    const sg_matrix *matrix, const int16_t *x, int parts, int stride, const float *scales, float *y)
{
    const int8_t *w = matrix->weights;
    int output, part;

    for (output = 0; output < matrix->outputs; output++) {
        float sum = 0.0f;
        for (part = 0; part < parts; part++, w += matrix->row) {
            sum += (float)sg_dot(w, x + part * stride, matrix->row) * scales[part];
        }
        y[output] = sum * matrix->scales[output];
    }
}

#endif
#endif
