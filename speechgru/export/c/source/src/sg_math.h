/* Exponential, logarithm and gates in single precision, the same on every machine.
 *
 * Many chips have no double precision, which the C library's functions may use. */
#ifndef SG_MATH_H
#define SG_MATH_H

#include <stdint.h>
#include <string.h>

/* exp(x) to 2e-7, relative, for -87 <= x <= 87; beyond, that of the bound (Moshier, Cephes, expf). */
static inline float sg_exp(float x)
{
    /* The bits of 87.0f. Comparing integers, compilers need no branch and vectorize loops. */
    const uint32_t sign_bit = 0x80000000u, bound = 0x42ae0000u;
    uint32_t bits, size;
    int32_t k;
    float r, p, power;

    memcpy(&bits, &x, sizeof bits);
    size = bits & ~sign_bit;
    bits = (bits & sign_bit) | (size < bound ? size : bound);
    memcpy(&x, &bits, sizeof x);
    /* Truncation of positive numbers rounds halves up. */
    k = (int32_t)(x * 1.44269504088896341f + 128.5f) - 128;
    r = x - (float)k * 0.693359375f;
    r = r + (float)k * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    bits = (uint32_t)(k + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* ln(x) of a normal positive x to 2e-7, relative (Moshier, Cephes, logf). */
static inline float sg_log(float x)
{
    /* The bits of sqrt(1/2), and how far they are below those of 1. */
    const uint32_t lowest = 0x3f3504f3u, shift = 0x3f800000u - lowest;
    float m, z, p;
    int32_t e;
    uint32_t bits;

    /* x = m 2^e with sqrt(1/2) <= m < sqrt(2) */
    memcpy(&bits, &x, sizeof bits);
    bits += shift;
    e = (int32_t)(bits >> 23) - 127;
    bits = (bits & 0x007fffffu) + lowest;
    memcpy(&m, &bits, sizeof m);
    m = m - 1.0f;
    z = m * m;
    p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z;
    p = p - (float)e * 2.12194440e-4f - 0.5f * z;
    return m + p + (float)e * 0.693359375f;
}

static inline float sg_sigmoid(float x)
{
    return 1.0f / (1.0f + sg_exp(-x));
}

static inline float sg_tanh(float x)
{
    return 1.0f - 2.0f / (1.0f + sg_exp(2.0f * x));
}

#endif
