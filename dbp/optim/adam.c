/* The rule of adam_rule.py in one pass over the vectors, with the bits of its numpy calls.
 *
 * Each operation rounds by itself: compile it without contraction to fused multiply-adds and
 * without -ffast-math. Numbers come as doubles and are rounded to the type, as numpy does.
 */
#include <math.h>
#include <stddef.h>

#define ADAM(NAME, TYPE, SQRT)                                                              \
    void NAME(size_t count, TYPE *restrict parameters, const TYPE *restrict gradient,       \
              TYPE *restrict m, TYPE *restrict v, double beta1, double rest1, double beta2, \
              double rest2, double root_scale, double epsilon, double rate)                 \
    {                                                                                       \
        const TYPE b1 = (TYPE)beta1, r1 = (TYPE)rest1, b2 = (TYPE)beta2, r2 = (TYPE)rest2;  \
        const TYPE scale = (TYPE)root_scale, least = (TYPE)epsilon, factor = (TYPE)rate;    \
        for (size_t i = 0; i < count; i++) {                                                \
            const TYPE g = gradient[i];                                                     \
            const TYPE mean = m[i] * b1 + g * r1;                                           \
            const TYPE square = v[i] * b2 + g * g * r2;                                     \
            m[i] = mean;                                                                    \
            v[i] = square;                                                                  \
            parameters[i] -= mean / (SQRT(square) * scale + least) * factor;                \
        }                                                                                   \
    }

ADAM(adam_float32, float, sqrtf)
ADAM(adam_float64, double, sqrt)
