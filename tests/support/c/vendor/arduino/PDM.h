/* The part of Arduino's PDM library that the example uses. */
#ifndef PDM_H
#define PDM_H

#include <Arduino.h>

class PDMClass
{
public:
    int begin(int channels, int sampleRate);
    virtual int available();
    virtual int read(void *buffer, size_t size);
    void onReceive(void (*function)(void));
};

extern PDMClass PDM;

#endif
