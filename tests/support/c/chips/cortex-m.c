/* From reset to main: memory as C expects it, the FPU on, and semihosting's arguments. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t stack_top, data_begin, data_end, data_source, bss_begin, bss_end;
extern void initialise_monitor_handles(void);
int main(int argc, char **argv);
void reset(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, (const void *)reset,
};

/* What QEMU was given with -semihosting-config arg=..., by SYS_GET_CMDLINE. */
static int arguments(char *line, int size, char **argv, int most)
{
    struct { char *line; int size; } block = {line, size};
    register int operation __asm__("r0") = 0x15;
    register void *parameter __asm__("r1") = &block;
    int argc = 0;
    char *word;

    __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(parameter) : "memory");
    if (operation != 0) return 0;
    for (word = strtok(line, " "); word != NULL && argc < most; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    return argc;
}

void reset(void)
{
    static char line[1024];
    static char *argv[8];

    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;  /* CPACR: full access to the FPU */
    __asm__ volatile("dsb\n isb");
    memcpy(&data_begin, &data_source, (size_t)((char *)&data_end - (char *)&data_begin));
    memset(&bss_begin, 0, (size_t)((char *)&bss_end - (char *)&bss_begin));
    initialise_monitor_handles();
    exit(main(arguments(line, sizeof line, argv, 8), argv));
}
