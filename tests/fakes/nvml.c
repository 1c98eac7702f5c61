/* A libnvidia-ml.so.1 that answers from a text file, so that the real NVML client runs where there is no GPU.
 *
 * $FAKE_NVML names the file: one "key=value" per line. A key that is not there is "not supported"; a value "error:N" is the
 * NVML error N. Keys: init, driver, cuda, count, gpu3.<field>, gpu3.mig2.name, gpu3.nvlink5.remote, gpu0-gpu1.<field>.
 * $FAKE_NVML_LOST_AFTER=N lets N questions be answered; every later one is the NVML error $FAKE_NVML_LOST_AS.
 * Built with -DOLD_DRIVER it lacks what came after the first drivers with NVLink. tests/fakes/nvml.py writes the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
enum { MIG = 1000 };

static char scenario[1 << 18];
static int initialised;
static long answers_left; /* negative: no end */
static int lost_as;

/* The value of a key, or NULL; `status` becomes what NVML would return for it. */
static const char *look_up(const char *key, int *status) {
    static char value[256];
    size_t length = strlen(key);
    if (initialised && answers_left == 0) { *status = lost_as; return NULL; }
    if (answers_left > 0) answers_left--;
    *status = initialised ? NOT_SUPPORTED : UNINITIALIZED;
    for (const char *line = scenario; initialised && line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, length) || line[length] != '=') continue;
        size_t size = strcspn(line + length + 1, "\n");
        snprintf(value, sizeof value, "%.*s", (int)size, line + length + 1);
        if (!strncmp(value, "error:", 6)) { *status = atoi(value + 6); return NULL; }
        *status = SUCCESS;
        return value;
    }
    return NULL;
}

static const char *name_of(const void *device) {
    static char names[2][64];
    static int turn;
    char *name = names[turn ^= 1];
    long number = (long)device - 1;
    if (number >= MIG) snprintf(name, 64, "gpu%ld.mig%ld", number / MIG - 1, number % MIG);
    else snprintf(name, 64, "gpu%ld", number);
    return name;
}

static const char *field(const void *device, const char *what, int *status) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", name_of(device), what);
    return look_up(key, status);
}

static int number(const void *device, const char *what, unsigned *out) {
    int status;
    const char *value = field(device, what, &status);
    if (value) *out = (unsigned)strtoul(value, NULL, 10);
    return status;
}

static int text(const char *value, int status, char *out, unsigned size) {
    if (value) snprintf(out, size, "%s", value);
    return status;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return NOT_FOUND;
    scenario[fread(scenario, 1, sizeof scenario - 1, file)] = 0;
    fclose(file);
    initialised = 1;
    answers_left = -1;
    int status;
    look_up("init", &status);
    initialised = status == SUCCESS;
    const char *after = getenv("FAKE_NVML_LOST_AFTER"), *as = getenv("FAKE_NVML_LOST_AS");
    answers_left = after ? atol(after) : -1;
    lost_as = as ? atoi(as) : 0;
    return status;
}

int nvmlShutdown(void) {
    const char *path = getenv("FAKE_NVML_SHUTDOWN");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fputs("shutdown\n", file); fclose(file); }
    initialised = 0;
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { int s; const char *v = look_up("driver", &s); return text(v, s, out, size); }

#ifndef OLD_DRIVER
int nvmlSystemGetCudaDriverVersion_v2(int *out) { int s; const char *v = look_up("cuda", &s); if (v) *out = atoi(v); return s; }
#endif

int nvmlDeviceGetCount_v2(unsigned *out) { int s; const char *v = look_up("count", &s); if (v) *out = (unsigned)atoi(v); return s; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    unsigned unused;
    *out = (void *)(long)(index + 1);
    int status = number(*out, "handle", &unused);
    return status == NOT_SUPPORTED ? SUCCESS : status;
}

int nvmlDeviceGetName(void *d, char *out, unsigned size) { int s; const char *v = field(d, "name", &s); return text(v, s, out, size); }

int nvmlDeviceGetUUID(void *d, char *out, unsigned size) { int s; const char *v = field(d, "uuid", &s); return text(v, s, out, size); }

int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
    int status;
    const char *value = field(d, "capability", &status);
    if (value) sscanf(value, "%d.%d", major, minor);
    return status;
}

int nvmlDeviceGetMemoryInfo(void *d, unsigned long long out[3]) {
    unsigned mib;
    int status = number(d, "memory_mib", &mib);
    if (status == SUCCESS) { out[0] = (unsigned long long)mib << 20; out[1] = out[0]; out[2] = 0; }
    return status;
}

int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *out) { return number(d, "power_limit_mw", out); }
int nvmlDeviceGetPowerUsage(void *d, unsigned *out) { return number(d, "power_mw", out); }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *out) { (void)sensor; return number(d, "temperature_c", out); }
int nvmlDeviceGetClockInfo(void *d, int type, unsigned *out) { return number(d, type == 1 ? "sm_mhz" : "memory_mhz", out); }

int nvmlDeviceGetEccMode(void *d, unsigned *current, unsigned *pending) { int s = number(d, "ecc", current); *pending = *current; return s; }

int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, unsigned long long *out) {
    unsigned count;
    (void)counter;
    int status = number(d, type ? "ecc_uncorrected" : "ecc_corrected", &count);
    if (status == SUCCESS) *out = count;
    return status;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetAttributes_v2(void *d, unsigned *out) {
    int status = number(d, "sm_count", out);
    return status == NOT_SUPPORTED ? INVALID_ARGUMENT : status;
}
#endif

int nvmlDeviceGetNvLinkState(void *d, unsigned link, unsigned *out) {
    unsigned links;
    int status = number(d, "nvlinks", &links);
    if (status == SUCCESS && link >= links) return INVALID_ARGUMENT;
    char off[32];
    snprintf(off, sizeof off, "nvlink%u.off", link);
    unsigned is_off = 0;
    if (status == SUCCESS) number(d, off, &is_off);
    *out = !is_off;
    return status;
}

static const char *remote(void *d, unsigned link, int *status) {
    char what[32];
    snprintf(what, sizeof what, "nvlink%u.remote", link);
    return field(d, what, status);
}

/* The first member is the old, shorter name of the bus; nvmlPciInfo_t is 68 bytes, and the name now in use is its last 32. */
static void bus(const char *gpu, char *out) {
    memset(out, 0, 68);
    snprintf(out + 36, 32, "00000000:%02X:00.0", 0x10 + atoi(gpu + strlen("gpu")));
}

int nvmlDeviceGetPciInfo_v3(void *d, char *out) { bus(name_of(d), out); return SUCCESS; }

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *d, unsigned link, char *out) {
    int status;
    const char *value = remote(d, link, &status);
    if (value && !strncmp(value, "gpu", 3)) bus(value, out);
    else if (value) memset(out, 0, 68), snprintf(out + 36, 32, "00000000:FF:00.0");
    return status;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetNvLinkRemoteDeviceType(void *d, unsigned link, int *out) {
    int status;
    const char *value = remote(d, link, &status);
    if (value) *out = strcmp(value, "switch") ? 0 : 2;
    return status;
}

int nvmlDeviceGetMigMode(void *d, unsigned *current, unsigned *pending) { int s = number(d, "mig_mode", current); *pending = *current; return s; }
#endif

int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *out) { return number(d, "mig_slots", out); }

int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned index, void **out) {
    int status;
    *out = (void *)((long)d * MIG + index + 1);
    field(*out, "name", &status);
    return status == NOT_SUPPORTED ? NOT_FOUND : status;
}

static int pair(const void *one, const void *other, const char *what, int *out) {
    char key[128];
    int status;
    snprintf(key, sizeof key, "%s-%s.%s", name_of(one), name_of(other), what);
    const char *value = look_up(key, &status);
    if (value) *out = atoi(value);
    return status;
}

int nvmlDeviceGetTopologyCommonAncestor(void *one, void *other, int *out) { return pair(one, other, "ancestor", out); }

int nvmlDeviceGetP2PStatus(void *one, void *other, int capability, int *out) {
    return pair(one, other, capability == 2 ? "p2p_nvlink" : "p2p_read", out);
}
