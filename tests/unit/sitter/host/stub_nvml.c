/* A driver library that does as a control file says. The tests compile it as libnvidia-ml.so.1 and the real pynvml loads it.
 *
 * The file named by STUB_NVML holds lines "key value", read anew at every call:
 *   count 2               how many GPUs
 *   util 86               a figure, of every GPU;  "1.util 3" of GPU 1 alone
 *   util.error 999        the call answers with this code;  "1.all.error 15": every call about GPU 1
 *   power.hang 1          the call does not come back while this line stands
 *   processes 100:5,200:- pids and bytes ("-": the driver does not say)
 *   xid 3:1:79            event number 3: GPU 1 reports Xid 79 (a new number is a new event)
 * Every call appends its name to the file named by STUB_NVML_CALLS, where that is set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int index; int slice; } device;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process;
typedef struct { device *of; unsigned long long type, data; unsigned gi, ci; } event;

static device gpus[16] = {{0,0},{1,0},{2,0},{3,0},{4,0},{5,0},{6,0},{7,0}};
static device slice = {0, 1};
static int initialised;

static int look(const char *key, char *out, size_t size) {
    char line[512], *path = getenv("STUB_NVML");
    FILE *f = path ? fopen(path, "r") : NULL;
    size_t n = strlen(key);
    int found = 0;
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, n) && line[n] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, size, "%s", line + n + 1);
            found = 1;
        }
    fclose(f);
    return found;
}

static int text(device *d, const char *name, const char *suffix, char *out, size_t size) {
    char key[128];
    if (d) {
        snprintf(key, sizeof key, "%d.%s%s", d->index, name, suffix);
        if (look(key, out, size)) return 1;
    }
    snprintf(key, sizeof key, "%s%s", name, suffix);
    return look(key, out, size);
}

static unsigned long long number(device *d, const char *name, unsigned long long otherwise) {
    char out[128];
    return text(d, name, "", out, sizeof out) ? strtoull(out, NULL, 0) : otherwise;
}

/* Note the call, hang if told so, and the code to answer with. */
static int begin(device *d, const char *name) {
    char out[128], *calls = getenv("STUB_NVML_CALLS");
    if (calls) {
        FILE *f = fopen(calls, "a");
        if (f) { fprintf(f, "%d.%s\n", d ? d->index : -1, name); fclose(f); }
    }
    while (text(d, name, ".hang", out, sizeof out)) usleep(20000);
    if (text(d, name, ".error", out, sizeof out)) return atoi(out);
    if (d && text(d, "all", ".error", out, sizeof out)) return atoi(out);
    return initialised || !strcmp(name, "init") ? 0 : 1;
}

#define BEGIN(d, name) do { int code_ = begin(d, name); if (code_) return code_; } while (0)

int nvmlInitWithFlags(unsigned flags) { (void)flags; BEGIN(NULL, "init"); initialised = 1; return 0; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { BEGIN(NULL, "shutdown"); initialised = 0; return 0; }
const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "an error of the stub"; }
int nvmlDeviceGetCount_v2(unsigned *n) { BEGIN(NULL, "getcount"); *n = number(NULL, "count", 1); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device **d) { BEGIN(&gpus[i], "handle"); *d = &gpus[i]; return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, device **d) {
    BEGIN(NULL, "byuuid");
    if (strncmp(uuid, "MIG-", 4)) return 6;
    *d = &slice;
    return 0;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *d, device **of) { BEGIN(d, "parent"); *of = &gpus[0]; return 0; }
int nvmlDeviceGetUUID(device *d, char *out, unsigned size) {
    BEGIN(d, "uuid");
    snprintf(out, size, "GPU-%08d-aaaa-bbbb-cccc-0123456789ab", d->index);
    return 0;
}
int nvmlDeviceGetName(device *d, char *out, unsigned size) {
    BEGIN(d, "name");
    if (!text(d, "name", "", out, size)) snprintf(out, size, "NVIDIA Stub 80GB");
    return 0;
}
int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
    BEGIN(d, "util"); u->gpu = number(d, "util", 0); u->memory = 1; return 0;
}
int nvmlDeviceGetMemoryInfo(device *d, memory_v1 *m) {
    BEGIN(d, "memory_v1"); m->total = number(d, "total", 80); m->used = number(d, "used", 0) + 1; m->free = 0; return 0;
}
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *m) {
    BEGIN(d, "memory");
    if (m->version != 0x02000028 || sizeof *m != 0x28) return 25;
    m->total = d->slice ? 10 : number(d, "total", 80);
    m->used = d->slice ? 7 : number(d, "used", 0);
    m->reserved = 1; m->free = 0;
    return 0;
}
int nvmlDeviceGetTemperature(device *d, unsigned s, unsigned *t) { (void)s; BEGIN(d, "temp"); *t = number(d, "temp", 0); return 0; }
int nvmlDeviceGetPowerUsage(device *d, unsigned *mw) { BEGIN(d, "power"); *mw = number(d, "power", 0); return 0; }
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) { BEGIN(d, "limit"); *mw = number(d, "limit", 0); return 0; }
int nvmlDeviceGetClockInfo(device *d, unsigned k, unsigned *mhz) {
    BEGIN(d, "clock"); if (k != 1) return 2; *mhz = number(d, "clock", 0); return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(device *d, unsigned long long *r) {
    BEGIN(d, "reasons"); *r = number(d, "reasons", 0); return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *r) {
    BEGIN(d, "old_reasons"); *r = number(d, "old_reasons", 0); return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(device *d, unsigned long long *mj) {
    BEGIN(d, "energy"); *mj = number(d, "energy", 0); return 0;
}
int nvmlDeviceGetTotalEccErrors(device *d, unsigned kind, unsigned counter, unsigned long long *n) {
    BEGIN(d, "ecc"); if (kind != 1 || counter != 0) return 2; *n = number(d, "ecc", 0); return 0;
}
int nvmlDeviceGetMigMode(device *d, unsigned *now, unsigned *pending) {
    BEGIN(d, "mig"); *now = *pending = number(d, "mig", 0); return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *n, process *out) {
    char list[256], *one, *rest = list;
    unsigned found = 0, room = *n;
    BEGIN(d, "processes");
    if (!text(d, "processes", "", list, sizeof list)) list[0] = 0;
    while ((one = strsep(&rest, ",")) && *one) {
        char *used = strchr(one, ':') + 1;
        if (found < room && out) {
            out[found].pid = atoi(one);
            out[found].used = *used == '-' ? ~0ULL : strtoull(used, NULL, 0);
        }
        found++;
    }
    *n = found;
    return found > room ? 7 : 0;
}

int nvmlEventSetCreate(void **set) { BEGIN(NULL, "eventset"); *set = &initialised; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }
int nvmlDeviceRegisterEvents(device *d, unsigned long long types, void *set) {
    (void)set; BEGIN(d, "register"); return types == 8 ? 0 : 3;
}
int nvmlEventSetWait_v2(void *set, event *e, unsigned ms) {
    static int last;
    char out[128];
    int which, of, code;
    (void)set;
    for (unsigned waited = 0; waited < ms; waited += 20) {
        BEGIN(NULL, "wait");
        if (look("xid", out, sizeof out) && sscanf(out, "%d:%d:%d", &which, &of, &code) == 3 && which > last) {
            last = which;
            e->of = &gpus[of]; e->type = 8; e->data = code;
            return 0;
        }
        usleep(20000);
    }
    return 10;
}
