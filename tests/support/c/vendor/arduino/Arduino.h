/* The part of Arduino's core that the example uses. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

extern "C" {
void delay(unsigned long ms);
void setup(void);
void loop(void);
}

template <class T, class L>
auto min(const T &a, const L &b) -> decltype((b < a) ? b : a)
{
    return (b < a) ? b : a;
}

class Print
{
public:
    size_t println(const char text[]);
};

class UART : public Print
{
public:
    void begin(unsigned long baud);
};

extern UART Serial;

#endif
