/* The part of FreeRTOS that the example uses. */
#ifndef FREERTOS_H
#define FREERTOS_H

#include <stdint.h>

typedef uint32_t TickType_t;

#define portMAX_DELAY ((TickType_t)0xffffffffUL)

#endif
