/* A stand-in for NCCL, for tests without a GPU: the functions that weft uses, between threads of one process. "Device"
 * memory is host memory, and a stream is what stub_stream_new gives. Nothing blocks but an abort that was told to hang.
 *
 * Compiled with -DVERSION=22809, and -DWITHOUT_LAST_ERROR for a build without ncclGetLastError. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { Success = 0, SystemError = 2, InvalidArgument = 4, InvalidUsage = 5, RemoteError = 6, InProgress = 7 };
enum { MEMBERS = 8, ROUNDS = 64 };

typedef struct { char bytes[128]; } Id;

typedef struct {
  size_t size;
  unsigned magic, version;
  int blocking, cga, min_ctas, max_ctas;
  const char *net;
  int split;
} Config;

/* What members put into one sum. */
typedef struct {
  void *parts[MEMBERS];
  int arrived;
} Round;

typedef struct Group {
  Id id;
  int world, joined;
  Round rounds[ROUNDS];
  struct Group *next;
} Group;

typedef struct Pending {
  struct Comm *comm;
  Round *round;
  void *receive;
  size_t count;
  int type;
  struct Pending *next;
} Pending;

typedef struct { Pending *first; } Stream;

typedef struct Comm {
  Group *group;
  int rank, asked, calls, aborted, error, busy;
} Comm;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Group *groups;
static unsigned ids, aborts;

/* What goes wrong, and for which rank; -1 is every one. */
static char deed[32];
static int whose;

void stub_misbehave(const char *what, int rank) {
  pthread_mutex_lock(&lock);
  snprintf(deed, sizeof deed, "%s", what);
  whose = rank;
  pthread_mutex_unlock(&lock);
}

static int told(const char *what, int rank) { return !strcmp(deed, what) && (whose < 0 || whose == rank); }

/* How many communicators were aborted. */
unsigned stub_aborts(void) {
  pthread_mutex_lock(&lock);
  unsigned n = aborts;
  pthread_mutex_unlock(&lock);
  return n;
}

int ncclGetVersion(int *version) { *version = VERSION; return Success; }

const char *ncclGetErrorString(int status) {
  switch (status) {
    case Success: return "no error";
    case SystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case InvalidArgument: return "invalid argument";
    case InvalidUsage: return "invalid usage";
    case RemoteError: return "remote process exited or there was a network error";
    case InProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

#ifndef WITHOUT_LAST_ERROR
const char *ncclGetLastError(Comm *comm) { (void)comm; return deed[0] ? "the stub was told to\n" : ""; }
#endif

int ncclGetUniqueId(Id *id) {
  if (told("id-fails", 0)) return SystemError;
  pthread_mutex_lock(&lock);
  Group *group = calloc(1, sizeof *group);
  for (size_t i = 0; i < sizeof id->bytes; i++) id->bytes[i] = (char)(255 - i);
  memcpy(id->bytes, &ids, sizeof ids);
  ids++;
  group->id = *id;
  group->next = groups;
  groups = group;
  pthread_mutex_unlock(&lock);
  return Success;
}

int ncclCommInitRankConfig(Comm **out, int world, Id id, int rank, Config *config) {
  *out = NULL;
  if (config->magic != 0xcafebeef || config->size != 48 || config->version < 21700 || config->blocking != 0 ||
      config->cga != INT32_MIN || config->max_ctas != INT32_MIN || config->net || config->split != INT32_MIN)
    return InvalidArgument;
  if (world < 1 || world > MEMBERS || rank < 0 || rank >= world) return InvalidArgument;
  if (told("init-fails", rank)) return SystemError;
  pthread_mutex_lock(&lock);
  Group *group = groups;
  while (group && memcmp(&group->id, &id, sizeof id)) group = group->next;
  if (group) {
    Comm *comm = calloc(1, sizeof *comm);
    comm->group = group;
    comm->rank = rank;
    group->world = world;
    if (!told("init-hangs", rank)) group->joined++;
    *out = comm;
  }
  pthread_mutex_unlock(&lock);
  return group ? InProgress : InvalidArgument;
}

int ncclCommGetAsyncError(Comm *comm, int *status) {
  pthread_mutex_lock(&lock);
  if (comm->error) *status = comm->error;
  else if (told("init-breaks", comm->rank)) *status = ++comm->asked > 3 ? RemoteError : InProgress;
  else if (comm->group->joined < comm->group->world) *status = InProgress;
  else if (comm->busy > 0) { comm->busy--; *status = InProgress; }
  else *status = Success;
  pthread_mutex_unlock(&lock);
  return Success;
}

static size_t bytes_of(int type) { return type == 4 ? 8 : type == 7 ? 4 : 0; }

int ncclAllReduce(const void *send, void *receive, size_t count, int type, int op, Comm *comm, Stream *stream) {
  if (op != 0 || !bytes_of(type)) return InvalidArgument;
  /* Another call must not come before the last one is no longer in progress. */
  if (comm->busy) return InvalidUsage;
  pthread_mutex_lock(&lock);
  int number = comm->calls++;
  Round *round = &comm->group->rounds[number % ROUNDS];
  if (told("sum-breaks", comm->rank)) comm->error = RemoteError;
  else if (!told("sum-hangs", comm->rank)) {
    void *part = malloc(count * bytes_of(type) + 1);
    memcpy(part, send, count * bytes_of(type));
    round->parts[comm->rank] = part;
    round->arrived++;
  }
  Pending **end = &stream->first;
  while (*end) end = &(*end)->next;
  *end = malloc(sizeof **end);
  **end = (Pending){comm, round, receive, count, type, NULL};
  comm->busy = 2;
  pthread_mutex_unlock(&lock);
  return InProgress;
}

int ncclCommAbort(Comm *comm) {
  if (told("abort-hangs", comm->rank)) for (;;) pause();
  pthread_mutex_lock(&lock);
  comm->aborted = 1;
  aborts++;
  pthread_mutex_unlock(&lock);
  return Success;
}

Stream *stub_stream_new(void) { return calloc(1, sizeof(Stream)); }

static void sum(const Pending *op) {
  for (size_t i = 0; i < op->count; i++) {
    if (op->type == 4) {
      uint64_t total = 0;
      for (int rank = 0; rank < op->comm->group->world; rank++) total += ((uint64_t *)op->round->parts[rank])[i];
      ((uint64_t *)op->receive)[i] = total;
    } else {
      float total = 0;
      for (int rank = 0; rank < op->comm->group->world; rank++) total += ((float *)op->round->parts[rank])[i];
      ((float *)op->receive)[i] = total;
    }
  }
}

/* Does what of the stream can be done; whether that is all. Sums of an aborted communicator are left out. */
int stub_stream_is_done(Stream *stream) {
  pthread_mutex_lock(&lock);
  while (stream->first) {
    Pending *op = stream->first;
    if (!op->comm->aborted) {
      if (op->round->arrived < op->comm->group->world) break;
      sum(op);
    }
    stream->first = op->next;
    free(op);
  }
  int done = !stream->first;
  pthread_mutex_unlock(&lock);
  return done;
}
