/* Measured limits of the processor: multiply-adds from registers, of floats and of codes, one version an instruction
 * set, and memory copies. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "tools/peak.h"

#include "core/base/alloc.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 4096, COPY_BYTES = 48 << 20 };

/* Independent chains of y = y * a + b in registers: enough of them to hide the latency on two units, few enough not to
 * spill. `a` and `b` come from memory, so that nothing is known about them; the values stay near 1. */
#define FMA_CHAINS(isa, attribute, width, chains)                                                                      \
  attribute static double fma_##isa(const float *ab, float *sink) {                                                    \
    typedef float vector __attribute__((vector_size(width)));                                                          \
    vector a = ab[0] - (vector){0}, b = ab[1] - (vector){0}, y[chains];                                                \
    _Pragma("GCC unroll 16") for (int i = 0; i < (chains); i++) y[i] = a + (float)i;                                   \
    for (int round = 0; round < ROUNDS; round++)                                                                       \
      _Pragma("GCC unroll 16") for (int i = 0; i < (chains); i++) y[i] = y[i] * a + b;                                 \
    _Pragma("GCC unroll 16") for (int i = 1; i < (chains); i++) y[0] += y[i];                                          \
    *sink = y[0][0];                                                                                                   \
    return (double)ROUNDS * (chains) * ((width) / (int)sizeof(float));                                                 \
  }

FMA_CHAINS(portable, , 16, 12)
#if defined(__x86_64__) && defined(__GNUC__)
FMA_CHAINS(avx2, __attribute__((target("avx2,fma"))), 32, 12)
FMA_CHAINS(avx512, __attribute__((target("avx512f"))), 64, 16)
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && has_avx2();
}
#endif
static bool has_all(void) {
  return true;
}

typedef struct version {
  const char *name;
  double (*run)(const float *ab, float *sink); /* returns the multiply-adds done */
  bool (*present)(void);
} version;

static const version versions[] = {
#if defined(__x86_64__) && defined(__GNUC__)
    {"avx512", fma_avx512, has_avx512},
    {"avx2", fma_avx2, has_avx2},
#endif
    {"portable", fma_portable, has_all},
};

/* Sums of products u8 times s8 from registers. Codes of 8 bits need sums of 32 bits, low bits do with 16: what the
 * fastest of them does is the peak. */
static double products_portable(void) {
  typedef unsigned short vector __attribute__((vector_size(16)));
  static volatile unsigned short opaque = 3;
  vector a = opaque - (vector){0}, y[8];
  for (int i = 0; i < 8; i++) y[i] = a + (unsigned short)i;
  for (int round = 0; round < ROUNDS; round++) _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) y[i] = y[i] * a + a;
  for (int i = 1; i < 8; i++) y[0] ^= y[i];
  opaque = y[0][0] | 1;
  return ROUNDS * 8.0 * 8;
}
#if defined(__x86_64__) && defined(__GNUC__)
/* In assembly, for compilers spill such chains or multiply once: a product into register t, added to register y. */
#define PAIR(kind, t, y)                                                                                               \
  "vpmaddubsw %%" kind "0, %%" kind "1, %%" kind #t "\n\tvpaddw %%" kind #t ", %%" kind #y ", %%" kind #y "\n\t"
#define FOUR_PAIRS(kind, a, b, c, d) PAIR(kind, 2, a) PAIR(kind, 3, b) PAIR(kind, 4, c) PAIR(kind, 5, d)
#define DOT(y) "vpdpbusd %%zmm0, %%zmm1, %%zmm" #y "\n\t"
#define FOUR_DOTS(a, b, c, d) DOT(a) DOT(b) DOT(c) DOT(d)
#define CODE_LOOP(name, isa, each, count, steps)                                                                       \
  __attribute__((target(isa))) static double name(void) {                                                              \
    int round = ROUNDS;                                                                                                \
    __asm__ volatile("1:\n\t" steps "decl %0\n\tjnz 1b\n\tvzeroupper"                                                  \
                     : "+r"(round)                                                                                     \
                     :                                                                                                 \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",  \
                       "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                                   \
    return (double)ROUNDS * (count) * (each);                                                                          \
  }
CODE_LOOP(products_avx2, "avx2", 32, 8, FOUR_PAIRS("ymm", 6, 7, 8, 9) FOUR_PAIRS("ymm", 10, 11, 12, 13))
CODE_LOOP(products_avx512, "avx512bw", 64, 8, FOUR_PAIRS("zmm", 6, 7, 8, 9) FOUR_PAIRS("zmm", 10, 11, 12, 13))
CODE_LOOP(products_vnni, "avx512bw,avx512vnni", 64, 12,
          FOUR_DOTS(2, 3, 4, 5) FOUR_DOTS(6, 7, 8, 9) FOUR_DOTS(10, 11, 12, 13))
static bool has_avx512bw(void) {
  return __builtin_cpu_supports("avx512bw") && has_avx512();
}
static bool has_vnni(void) {
  return __builtin_cpu_supports("avx512vnni") && has_avx512bw();
}
#endif

typedef struct code_loop {
  const char *isa, *instructions;
  double (*run)(void); /* returns the multiply-adds done */
  bool (*present)(void);
} code_loop;

static const code_loop code_loops[] = {
#if defined(__x86_64__) && defined(__GNUC__)
    {"avx512", "avx512 vpdpbusd", products_vnni, has_vnni},
    {"avx512", "avx512 vpmaddubsw + vpaddw", products_avx512, has_avx512bw},
    {"avx2", "avx2 vpmaddubsw + vpaddw", products_avx2, has_avx2},
#endif
    {"portable", "portable, 16-bit multiply-add", products_portable, has_all},
};
enum { CODE_LOOPS = sizeof code_loops / sizeof *code_loops };

static const version *best_version(void) {
  const version *best = versions;
  while (!best->present()) best++;
  return best;
}

const char *qe_peak_isa(void) {
  return best_version()->name;
}

int qe_peak_threads(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

enum { START_WAIT, START_GO, START_NEVER };

typedef struct worker worker;
struct worker {
  double (*work)(worker *self); /* a short piece of work; returns its units */
  double warm_up, duration;     /* seconds */
  atomic_int *signal;           /* START_ values */
  pthread_t thread;
  double rate; /* units a second */
  const version *version;
  float ab[2], sink;
  const code_loop *codes;
  char *source, *target;
};

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *run_worker(void *context) {
  worker *self = context;
  while (atomic_load(self->signal) == START_WAIT) sched_yield();
  if (atomic_load(self->signal) == START_NEVER) return NULL;
  double start = seconds(), units = 0, at;
  while (seconds() - start < self->warm_up) self->work(self);
  start = seconds();
  do {
    units += self->work(self);
    at = seconds();
  } while (at - start < self->duration);
  self->rate = units / (at - start);
  return NULL;
}

/* Run all workers at once, the first on this thread; *rate becomes the sum of theirs. */
static qe_status run_workers(worker *workers, int threads, double *rate) {
  atomic_int signal = START_WAIT;
  int made = 1;
  for (int i = 0; i < threads; i++) workers[i].signal = &signal;
  while (made < threads && pthread_create(&workers[made].thread, NULL, run_worker, &workers[made]) == 0) made++;
  atomic_store(&signal, made == threads ? START_GO : START_NEVER);
  run_worker(&workers[0]);
  for (int i = 1; i < made; i++) pthread_join(workers[i].thread, NULL);
  *rate = 0;
  for (int i = 0; i < threads; i++) *rate += workers[i].rate;
  return made == threads ? QE_OK : qe_fail(QE_NO_MEMORY, "cannot start %d threads; use fewer --threads", threads);
}

static double fma_work(worker *self) {
  return self->version->run(self->ab, &self->sink);
}

static double code_work(worker *self) {
  return self->codes->run();
}

static double copy_work(worker *self) {
  memcpy(self->target, self->source, COPY_BYTES);
  char *swapped = self->source;
  self->source = self->target;
  self->target = swapped;
  return 2.0 * COPY_BYTES;
}

qe_status qe_peak_macs(int threads, double *macs) {
  worker *workers = QE_NEW_ARRAY(worker, threads);
  if (!workers) return QE_NO_MEMORY;
  for (int i = 0; i < threads; i++)
    workers[i] =
        (worker){.work = fma_work, .warm_up = 0.02, .duration = 0.06, .version = best_version(), .ab = {0.5f, 0.5f}};
  qe_status status = run_workers(workers, threads, macs);
  qe_free(workers);
  return status;
}

static qe_status code_rate(const code_loop *loop, int threads, double *macs) {
  worker *workers = QE_NEW_ARRAY(worker, threads);
  if (!workers) return QE_NO_MEMORY;
  for (int i = 0; i < threads; i++)
    workers[i] = (worker){.work = code_work, .warm_up = 0.01, .duration = 0.03, .codes = loop};
  qe_status status = run_workers(workers, threads, macs);
  qe_free(workers);
  return status;
}

qe_status qe_peak_code_macs(int threads, double *macs, const char **instructions) {
  const char *wanted = getenv("QEVO_CPU_ISA");
  *macs = 0;
  for (int i = 0; i < CODE_LOOPS; i++) {
    const code_loop *loop = &code_loops[i];
    bool in_use = !wanted || !wanted[0] || strcmp(wanted, loop->isa) == 0 || i == CODE_LOOPS - 1;
    double rate;
    if (!in_use || !loop->present()) continue;
    QE_TRY(code_rate(loop, threads, &rate));
    if (rate <= *macs) continue;
    *macs = rate;
    *instructions = loop->instructions;
  }
  return QE_OK;
}

qe_status qe_peak_bytes(int threads, double *bytes) {
  worker *workers = QE_NEW_ARRAY(worker, threads);
  if (!workers) return QE_NO_MEMORY;
  qe_status status = QE_OK;
  for (int i = 0; i < threads && status == QE_OK; i++) {
    workers[i] = (worker){.work = copy_work, .warm_up = 0.05, .duration = 0.25};
    workers[i].source = qe_calloc(COPY_BYTES, 1);
    workers[i].target = qe_calloc(COPY_BYTES, 1);
    if (!workers[i].source || !workers[i].target) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = run_workers(workers, threads, bytes);
  for (int i = 0; i < threads; i++) {
    qe_free(workers[i].source);
    qe_free(workers[i].target);
  }
  qe_free(workers);
  return status;
}
