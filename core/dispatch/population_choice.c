/* The choice among engines that take the same network: by measuring. All give the same bits, so that only time depends
 * on it. What is faster depends on device, network and call: one engine computes every layer of every candidate,
 * another takes the layers before a candidate's first change over from the parent. So calls are sorted by the share of
 * multiply-adds that is the candidates' own, and the first call of a kind that is worth it is timed on each engine. */
#include "core/base/alloc.h"
#include "core/dispatch/population_parts.h"

#include <time.h>

enum {
  KINDS = 9,             /* of calls: no more than k / 8 of the multiply-adds are the candidates' own */
  WORTHWHILE = 1 << 14,  /* candidate-images: calls of fewer run on the first engine rather than being measured */
  TRIAL_CANDIDATES = 64, /* of a trial at most */
  TRIAL_IMAGES = 256,    /* likewise */
  TRIALS = 2             /* timed, after one that warms up; the faster counts */
};

static const int64_t FAILED = INT64_MAX;

typedef struct choice {
  const qe_network *network;
  const qe_genome_layout *layout;
  int64_t (*clock)(void);
  const qe_network_engine *engine[QE_CHOICE_MOST];
  void *state[QE_CHOICE_MOST];
  int count;
  int last;            /* that ran */
  int64_t *macs_after; /* [layers + 1]: multiply-adds of a layer and those behind it */
  bool measured[KINDS];
  int taken[KINDS];
  int64_t nanoseconds[KINDS][QE_CHOICE_MOST];
} choice;

static int64_t monotonic_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- kinds of calls ---- */

static const char *genome_of(const choice *c, const qe_population_call *call, int32_t i) {
  return (const char *)call->genomes + (size_t)i * c->layout->bytes;
}

/* The mean over the candidates, rounded up. */
static int kind_of(const choice *c, const qe_population_call *call) {
  int64_t own = 0, all = c->macs_after[0];
  if (!call->parent || all == 0) return KINDS - 1;
  for (int32_t i = 0; i < call->candidates; i++)
    own +=
        c->macs_after[qe_genome_first_difference(c->layout, genome_of(c, call, i), call->parent, c->network->layers)];
  return (int)((own / call->candidates * (KINDS - 1) + all - 1) / all);
}

/* ---- measuring ---- */

static qe_status time_engine(choice *c, int which, const qe_population_call *call, int64_t *nanoseconds) {
  int64_t loss[TRIAL_CANDIDATES], hits[TRIAL_CANDIDATES];
  const qe_population_result result = {.loss = loss, .hits = hits};
  *nanoseconds = FAILED;
  QE_TRY(c->engine[which]->run(c->state[which], call, &result));
  for (int i = 0; i < TRIALS; i++) {
    int64_t start = c->clock();
    QE_TRY(c->engine[which]->run(c->state[which], call, &result));
    int64_t taken = c->clock() - start;
    if (taken < *nanoseconds) *nanoseconds = taken;
  }
  return QE_OK;
}

/* On the call's first candidates and images. An engine that has too little memory for them is out; another failure is
 * the call's. */
static qe_status measure(choice *c, const qe_population_call *call, int kind) {
  qe_population_call trial = *call;
  if (trial.candidates > TRIAL_CANDIDATES) trial.candidates = TRIAL_CANDIDATES;
  if (trial.count > TRIAL_IMAGES) trial.count = TRIAL_IMAGES;
  trial.bound = INT64_MAX;
  for (int i = 0; i < c->count; i++) {
    qe_status status = time_engine(c, i, &trial, &c->nanoseconds[kind][i]);
    if (status != QE_OK && status != QE_NO_MEMORY) return status;
    if (status != QE_OK) c->nanoseconds[kind][i] = FAILED;
    if (c->nanoseconds[kind][i] < c->nanoseconds[kind][c->taken[kind]]) c->taken[kind] = i;
  }
  qe_message_clear();
  c->measured[kind] = true;
  return QE_OK;
}

static qe_status run(void *state, const qe_population_call *call, const qe_population_result *result) {
  choice *c = state;
  int kind = kind_of(c, call);
  if (c->count > 1 && !c->measured[kind] && call->candidates * call->count >= WORTHWHILE)
    QE_TRY(measure(c, call, kind));
  c->last = c->taken[kind];
  return c->engine[c->last]->run(c->state[c->last], call, result);
}

/* ---- opening ---- */

static void close_engines(choice *c) {
  for (int i = 0; i < c->count; i++) c->engine[i]->close(c->state[i]);
  c->count = 0;
}

static void close_choice(void *state) {
  choice *c = state;
  if (!c) return;
  close_engines(c);
  qe_free(c->macs_after);
  qe_free(c);
}

/* At most `most` of them, each with so much memory; none that refuses the network or has too little. */
static qe_status open_engines(choice *c, qe_queue *queue, const qe_population_options *options, size_t memory,
                              const qe_network_engine *const *list, int count, int most) {
  qe_population_options each = *options;
  qe_status failed = QE_REFUSED;
  each.memory = memory;
  for (int i = 0; i < count && c->count < most; i++) {
    void *state = NULL;
    qe_status status = list[i]->open(queue, c->network, c->layout, &each, &state);
    if (status != QE_OK && status != QE_REFUSED && status != QE_NO_MEMORY) return status;
    if (status == QE_NO_MEMORY) failed = status;
    if (status != QE_OK) continue;
    c->engine[c->count] = list[i];
    c->state[c->count++] = state;
  }
  if (!c->count) return failed;
  qe_message_clear();
  return QE_OK;
}

/* The memory is shared out; where that leaves one engine, it has all. */
static qe_status open_choice(choice *c, qe_queue *queue, const qe_population_options *options,
                             const qe_network_engine *const *list, int count) {
  c->macs_after = QE_NEW_ARRAY(int64_t, c->network->layers + 1);
  if (!c->macs_after) return QE_NO_MEMORY;
  for (size_t i = c->network->layers; i-- > 0;)
    c->macs_after[i] = c->macs_after[i + 1] + qe_network_macs(c->network, i);
  qe_status status = open_engines(c, queue, options, options->memory / (size_t)count, list, count, QE_CHOICE_MOST);
  if (c->count > 1 || (status != QE_OK && status != QE_REFUSED && status != QE_NO_MEMORY)) return status;
  close_engines(c);
  return open_engines(c, queue, options, options->memory, list, count, 1);
}

qe_status qe_choice_open(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                         const qe_population_options *options, const qe_network_engine *const *list, int count,
                         void **state) {
  choice *c = QE_NEW(choice);
  if (!c) return QE_NO_MEMORY;
  c->network = network;
  c->layout = layout;
  c->clock = options->clock ? options->clock : monotonic_clock;
  qe_status status = open_choice(c, queue, options, list, count);
  if (status == QE_OK)
    *state = c;
  else
    close_choice(c);
  return status;
}

/* ---- for people ---- */

const char *qe_choice_engine(const void *state) {
  const choice *c = state;
  return c->engine[c->last]->name;
}

static void explain_kind(const choice *c, int kind, FILE *file) {
  if (kind == KINDS - 1)
    fputs("all layers of each candidate:", file);
  else
    fprintf(file, "%d/%d of the multiply-adds are the candidates' own:", kind, KINDS - 1);
  for (int i = 0; i < c->count; i++)
    if (c->nanoseconds[kind][i] == FAILED)
      fprintf(file, " %s has too little memory,", c->engine[i]->name);
    else
      fprintf(file, " %s %lld us,", c->engine[i]->name, (long long)(c->nanoseconds[kind][i] / 1000));
  fprintf(file, " so %s\n", c->engine[c->taken[kind]]->name);
}

static void explain(const void *state, FILE *file) {
  const choice *c = state;
  for (int kind = 0; kind < KINDS; kind++)
    if (c->measured[kind]) explain_kind(c, kind, file);
  for (int i = 0; i < c->count; i++) c->engine[i]->explain(c->state[i], file);
}

const qe_network_engine qe_engine_choice = {.name = "choice", .close = close_choice, .run = run, .explain = explain};
