// A management library without a GPU behind it, for tests: what nvml.h declares, with figures that a test knows. With LOST
// its GPU has fallen off the bus after it was opened.

#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, GPU_IS_LOST = 15 };

#ifdef LOST
#define ANSWER GPU_IS_LOST
#else
#define ANSWER OK
#endif

typedef void *Device;

struct EventData {
    Device device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

struct FieldValue {
    unsigned field, scope;
    long long timestamp, latency;
    int type, status;
    union {
        double real;
        unsigned whole;
        unsigned long long large;
    } value;
};

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    strncpy(version, "570.148.08", length);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    *device = (Device)1;
    return strcmp(uuid, "GPU-of-the-test") == 0 ? OK : NOT_FOUND;
}

int nvmlEventSetCreate(void **set) {
    *set = (void *)2;
    return OK;
}

int nvmlEventSetFree(void *set) { return OK; }

// Only the driver's critical errors.
int nvmlDeviceRegisterEvents(Device device, unsigned long long types, void *set) {
    return types == 8 ? OK : NOT_SUPPORTED;
}

// Two errors, one after another, then nothing.
int nvmlEventSetWait_v2(void *set, struct EventData *event, unsigned millis) {
    static int told = 0;
    if (ANSWER != OK || told == 2) return ANSWER == OK ? TIMEOUT : ANSWER;
    memset(event, 0, sizeof *event);
    event->device = (Device)1;
    event->type = 8;
    event->data = told++ == 0 ? 31 : 63;
    return OK;
}

int nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    *celsius = 61;
    return ANSWER;
}

// Three that could not be corrected since the driver was loaded; many others.
int nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *count) {
    *count = kind == 1 && counter == 0 ? 3 : 1000;
    return ANSWER;
}

// A limit of power, which is usual, and heat.
int nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *reasons) {
    *reasons = 0x4 | 0x8 | 0x40;
    return ANSWER;
}

// Rows wait for their replacement (144), none failed (145).
int nvmlDeviceGetFieldValues(Device device, int count, struct FieldValue *values) {
    for (int i = 0; i < count; i++) {
        values[i].type = 1;
        values[i].status = OK;
        values[i].value.whole = values[i].field == 144;
    }
    return ANSWER;
}
