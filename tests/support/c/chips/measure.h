/* Instructions and stack of sg_push on an emulated core.
 *
 * With QEMU's `-icount shift=0` an instruction takes a nanosecond. On a Cortex-M, SysTick counts the
 * board's clock, INSTRUCTIONS_PER_TICK; on RISC-V, the cycle counter counts instructions. The stack
 * below the caller is filled with a pattern before each call, and what the call left of it counted. */
#include <stdint.h>
#include <stdio.h>

#define STACK_WORDS 4096
#define PATTERN 0x5aa5c33cu

static uint32_t most_ticks, most_stack, steps;
static uint64_t ticks;
static volatile uint32_t *base;

#ifdef __riscv

#define GET_STACK_POINTER "mv %0, sp"
#define LOOP "1: addi %0, %0, -1\n bnez %0, 1b"
static uint32_t start;

static uint32_t cycles(void)
{
    uint32_t now;

    __asm__ volatile(".option arch, +zicsr\n csrr %0, mcycle" : "=r"(now));
    return now;
}

static void start_clock(void)
{
    start = cycles();
}

static uint32_t stop_clock(void)
{
    return cycles() - start;
}
#else
#define GET_STACK_POINTER "mov %0, sp"
#define LOOP "1: subs %0, %0, #1\n bne 1b"
static volatile uint32_t *const systick = (volatile uint32_t *)0xe000e010;

static void start_clock(void)
{
    systick[1] = 0xffffff;  /* reload value */
    systick[0] = 5;         /* the core's clock, no interrupt */
    systick[2] = 0;         /* restart; it is loaded with the next tick */
    while (systick[2] == 0) {}
}

static uint32_t stop_clock(void)
{
    return 0xffffff - systick[2];
}
#endif

static void __attribute__((noinline)) measure_begin(void)
{
    int i;

    __asm__ volatile(GET_STACK_POINTER : "=r"(base));
    for (i = 1; i < STACK_WORDS; i++) base[-i] = PATTERN;
    start_clock();
}

static void __attribute__((noinline)) measure_end(void)
{
    uint32_t taken = stop_clock(), i = STACK_WORDS - 1;

    while (i > 0 && base[-(int32_t)i] == PATTERN) i--;
    most_stack = 4 * i > most_stack ? 4 * i : most_stack;
    most_ticks = taken > most_ticks ? taken : most_ticks;
    ticks += taken;
    steps++;
}

/* A loop of 2 million instructions, by the same clock. */
static uint32_t two_million(void)
{
    uint32_t n = 1000000;

    start_clock();
    __asm__ volatile(LOOP : "+r"(n) : : "cc");
    return stop_clock() * INSTRUCTIONS_PER_TICK;
}

static void measure_report(void)
{
    fprintf(
        stderr, "{\"steps\": %lu, \"mean_instructions\": %lu, \"most_instructions\": %lu, "
        "\"stack_bytes\": %lu, \"state_bytes\": %lu, \"two_million\": %lu}\n",
        (unsigned long)steps, (unsigned long)(ticks * INSTRUCTIONS_PER_TICK / (steps ? steps : 1)),
        (unsigned long)(most_ticks * INSTRUCTIONS_PER_TICK), (unsigned long)most_stack,
        (unsigned long)sizeof(sg_state), (unsigned long)two_million());
}
