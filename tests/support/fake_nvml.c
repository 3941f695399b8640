/* NVIDIA's management library as far as the product asks it, without any card.
 *
 * Every call reads the state anew from the file that FAKE_NVML_STATE names, so that whoever writes
 * that file may plug cards in and out, break them and reload the driver under a running process.
 * tests/support/fake_nvml.py writes it and describes its lines.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 64

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, SMALL = 7, NO_FUNCTION = 13, LOST = 15, AGE = 25 };

typedef unsigned long long Bytes;
typedef struct {
    unsigned bus;
    Bytes total, reserved, used;
    int error, memory_error, process_error;
    char name[96];
} Card;
typedef struct { unsigned bus; char kind; unsigned pid; long long used; } Running;
typedef struct {
    int init, epoch, old, delay_ms, cards, processes;
    Card card[MOST];
    Running process[MOST];
} State;
typedef struct { Bytes total, free, used; } Memory;
typedef struct { unsigned version; Bytes total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; Bytes used; unsigned instance, part; } Info;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char address[32];
} Pci;

static char handles[256]; /* a handle is the address of the place of its bus */
static int running;       /* how often it was started */
static int started;       /* the driver's epoch at that time */

static State look(void) {
    State state = {0};
    char line[256];
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        Card *card = &state.card[state.cards];
        Running *process = &state.process[state.processes];
        if (sscanf(line, "driver %d %d %d %d", &state.init, &state.epoch, &state.old,
                   &state.delay_ms) == 4)
            continue;
        if (state.cards < MOST &&
            sscanf(line, "card %u %llu %llu %llu %d %d %d %95[^\n]", &card->bus, &card->total,
                   &card->reserved, &card->used, &card->error, &card->memory_error,
                   &card->process_error, card->name) == 8)
            state.cards++;
        else if (state.processes < MOST &&
                 sscanf(line, "process %u %c %u %lld", &process->bus, &process->kind,
                        &process->pid, &process->used) == 4)
            state.processes++;
    }
    if (file) fclose(file);
    usleep(state.delay_ms * 1000);
    return state;
}

/* The card behind a handle, and what is wrong with it or with the session. */
static int find(const State *state, const char *handle, Card *card) {
    if (!running || state->epoch != started) return UNINITIALIZED;
    for (int i = 0; i < state->cards; i++)
        if (handle == &handles[state->card[i].bus % sizeof handles]) {
            *card = state->card[i];
            return card->error;
        }
    return LOST;
}

int nvmlInitWithFlags(unsigned flags) {
    State state = look();
    (void)flags;
    if (state.init) return state.init;
    running++;
    started = state.epoch;
    return OK;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!running || look().epoch != started) return UNINITIALIZED;
    running--;
    return OK;
}

const char *nvmlErrorString(int error) { return error ? "an error of the fake" : "Success"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "580.00.00");
    return running ? OK : UNINITIALIZED;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    State state = look();
    *count = state.cards;
    return running && state.epoch == started ? OK : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, char **handle) {
    State state = look();
    if (!running || state.epoch != started) return UNINITIALIZED;
    if (index >= (unsigned)state.cards) return INVALID;
    *handle = &handles[state.card[index].bus % sizeof handles];
    return state.card[index].error;
}

int nvmlDeviceGetName(char *handle, char *text, unsigned size) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    if (!error) snprintf(text, size, "%s", card.name);
    return error;
}

int nvmlDeviceGetUUID(char *handle, char *text, unsigned size) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    if (!error) snprintf(text, size, "GPU-00000000-0000-0000-0000-%012x", card.bus);
    return error;
}

int nvmlDeviceGetPciInfo_v3(char *handle, Pci *pci) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    if (error) return error;
    memset(pci, 0, sizeof *pci);
    pci->bus = card.bus;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", card.bus);
    snprintf(pci->address, sizeof pci->address, "00000000:%02X:00.0", card.bus);
    return OK;
}

int nvmlDeviceGetMemoryInfo(char *handle, Memory *memory) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    if (error || card.memory_error) return error ? error : card.memory_error;
    memory->total = card.total;
    memory->used = card.used + card.reserved;
    memory->free = card.total - memory->used;
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(char *handle, Memory2 *memory) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    if (state.old) return NO_FUNCTION;
    if (error || card.memory_error) return error ? error : card.memory_error;
    if (memory->version != (sizeof *memory | 2u << 24)) return AGE;
    memory->total = card.total;
    memory->reserved = card.reserved;
    memory->used = card.used;
    memory->free = card.total - card.used - card.reserved;
    return OK;
}

/* As the library does it: asked with too little room, it only says how much is needed. */
static int processes(char kind, int modern, char *handle, unsigned *count, Info *infos) {
    Card card;
    State state = look();
    int error = find(&state, handle, &card);
    unsigned found = 0, room = infos ? *count : 0;
    if (modern && state.old) return NO_FUNCTION;
    if (error || card.process_error) return error ? error : card.process_error;
    for (int i = 0; i < state.processes; i++) {
        Running *process = &state.process[i];
        if (process->bus != card.bus || process->kind != kind) continue;
        Bytes used = process->used < 0 ? ~0ULL : (Bytes)process->used;
        if (found < room) infos[found] = (Info){process->pid, used, ~0u, ~0u};
        found++;
    }
    *count = found;
    return found > room ? SMALL : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v2(char *handle, unsigned *count, Info *infos) {
    return processes('C', 0, handle, count, infos);
}

int nvmlDeviceGetComputeRunningProcesses_v3(char *handle, unsigned *count, Info *infos) {
    return processes('C', 1, handle, count, infos);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(char *handle, unsigned *count, Info *infos) {
    return processes('G', 0, handle, count, infos);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(char *handle, unsigned *count, Info *infos) {
    return processes('G', 1, handle, count, infos);
}
