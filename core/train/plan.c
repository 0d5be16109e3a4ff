/* Plans of gradient training: a trainer is made, asked for its memory, and a few steps are timed. */
#include "core/train/plan.h"

#include "core/train/trainer_parts.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

const char *qe_plan_part_name(qe_plan_part part) {
  static const char *const names[] = {
#define X(id, name) name,
      QE_PLAN_PART_LIST(X)
#undef X
  };
  return names[part];
}

size_t qe_plan_data_bytes(const qe_dataset *data) {
  size_t images = (size_t)data->train_images + (size_t)data->test_images;
  return images * ((size_t)data->height * (size_t)data->width * (size_t)data->channels + sizeof(int32_t));
}

size_t qe_plan_peak(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss << 10 : 0; /* Linux: KiB */
}

size_t qe_plan_resident(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  if (fscanf(file, "%*s %lu", &pages) != 1) pages = 0;
  (void)fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t qe_plan_held(const qe_plan *plan, const qe_plan_phase *phase, bool checkpoint) {
  size_t bytes = 0;
  for (int i = 0; i < QE_PLAN_PARTS; i++) {
    if (i == QE_PLAN_CHECKPOINT && !checkpoint) continue;
    bytes += phase->host[i] + (plan->host_memory ? phase->device[i] : 0);
  }
  return bytes;
}

bool qe_plan_is_timed(const qe_device *device) {
  return strcmp(device->backend->name, "ref") != 0;
}

double qe_plan_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- memory ---- */

static size_t bytes_of(const qe_buffer *buffer) {
  return buffer ? buffer->bytes : 0;
}

static void fill_memory(const qe_trainer *trainer, const qe_session *eval, qe_plan_phase *phase) {
  size_t *device = phase->device, *host = phase->host;
  device[QE_PLAN_DATA] = bytes_of(trainer->train_images.pixels) + bytes_of(trainer->test_images.pixels);
  for (int i = 0; i < 2; i++) {
    const qe_learner *learner = i ? &trainer->twin : &trainer->own;
    size_t optimizer = bytes_of(learner->momentum) + bytes_of(learner->second) + bytes_of(learner->average);
    size_t own = learner->model ? qe_graph_param_bytes(learner->model->graph) : 0;
    device[QE_PLAN_PARAMETERS] += bytes_of(learner->params);
    device[QE_PLAN_GRADIENTS] += bytes_of(learner->gradients) + bytes_of(learner->total);
    device[QE_PLAN_OPTIMIZER] += optimizer;
    host[QE_PLAN_PARAMETERS] += own;
    host[QE_PLAN_CHECKPOINT] += own + optimizer + bytes_of(learner->total);
  }
  device[QE_PLAN_ACTIVATIONS] = qe_program_arena_bytes(trainer->train.lowered.program);
  device[QE_PLAN_EVALUATION] = qe_program_arena_bytes(eval->lowered.program);
  host[QE_PLAN_DATA] = qe_plan_data_bytes(trainer->data) +
                       (2 * (size_t)trainer->kept_count + (size_t)trainer->options.held_out) * sizeof(int32_t);
}

/* ---- time ---- */

enum {
  WARM_UP = 2,
  MOST_STEPS = 20
}; /* the second run of a program may be recorded, and the third be the first quick */

typedef struct stopwatch {
  int64_t steps; /* done */
  double since, last;
} stopwatch;

/* A second of steps is enough; of slow ones, one. */
static qe_status count_step(void *context, const qe_train_progress *progress) {
  stopwatch *watch = context;
  (void)progress;
  watch->last = qe_plan_clock();
  if (++watch->steps == WARM_UP) watch->since = watch->last;
  bool enough = watch->last - watch->since > 1 || watch->steps == WARM_UP + MOST_STEPS;
  return watch->steps > WARM_UP && enough ? QE_INTERRUPTED : QE_OK;
}

static qe_status time_steps(qe_trainer *trainer, qe_plan_phase *phase) {
  stopwatch watch = {0};
  qe_status status = QE_OK;
  while (status == QE_OK) status = qe_trainer_epoch(trainer, count_step, &watch);
  if (status != QE_INTERRUPTED) return status;
  phase->timed = watch.steps - WARM_UP;
  double images = (double)phase->timed * trainer->options.batch, elapsed = watch.last - watch.since;
  phase->images_per_second = elapsed > 0 ? images / elapsed : 0;
  return QE_OK;
}

/* Seconds of evaluating an image; the first run is not timed. */
static qe_status time_evaluation(qe_trainer *trainer, qe_session *eval, double *seconds) {
  double loss = 0, since = 0;
  int64_t hits = 0;
  int32_t count = eval->batch < trainer->data->test_images ? eval->batch : trainer->data->test_images;
  int32_t *index = trainer->order;
  if (count > trainer->kept_count) count = trainer->kept_count;
  for (int32_t i = 0; i < count; i++) index[i] = i;
  for (int run = 0; run < 2; run++) {
    since = qe_plan_clock();
    QE_TRY(qe_session_run(eval, index, count, 0, 0, &loss, &hits));
  }
  *seconds = (qe_plan_clock() - since) / (double)eval->batch;
  return QE_OK;
}

static qe_status fill_times(qe_trainer *trainer, qe_session *eval, qe_plan_phase *phase) {
  double image_seconds = 0;
  QE_TRY(time_steps(trainer, phase));
  QE_TRY(time_evaluation(trainer, eval, &image_seconds));
  double trained = (double)trainer->epoch_steps * trainer->options.batch;
  double evaluated = (double)trainer->data->test_images + trainer->options.held_out;
  phase->epoch_seconds = trained / phase->images_per_second + evaluated * image_seconds;
  phase->seconds = phase->epoch_seconds * (double)phase->epochs;
  return QE_OK;
}

/* ---- the phase ---- */

static qe_status fill_phase(qe_trainer *trainer, qe_plan *plan, qe_plan_phase *phase) {
  qe_session *eval;
  QE_TRY(qe_trainer_eval_session(trainer, true, false, &eval));
  fill_memory(trainer, eval, phase);
  if (qe_plan_is_timed(trainer->device)) QE_TRY(fill_times(trainer, eval, phase));
  size_t now = qe_plan_resident(), held = qe_plan_held(plan, phase, false);
  if (plan->phases == 0) plan->other = now > held ? now - held : 0;
  plan->peak = qe_plan_peak();
  return QE_OK;
}

qe_status qe_plan_training(qe_device *device, qe_model *model, const qe_dataset *data, const qe_train_options *options,
                           const char *name, qe_plan *plan) {
  enum { PLENTY = 1000 };
  qe_train_options still = *options; /* nothing moves, nothing can diverge, and epochs do not run out */
  still.epochs = PLENTY;
  still.schedule = (qe_schedule){.kind = QE_SCHEDULE_CONSTANT};
  qe_trainer *trainer;
  if (plan->phases == QE_PLAN_PHASES) return qe_fail(QE_USAGE, "a plan has at most %d phases", QE_PLAN_PHASES);
  qe_plan_phase *phase = &plan->phase[plan->phases];
  *phase = (qe_plan_phase){.name = name, .epochs = options->epochs};
  plan->host_memory = device->host_memory;
  QE_TRY(qe_trainer_new(device, model, data, &still, &trainer));
  qe_status status = fill_phase(trainer, plan, phase);
  qe_trainer_free(trainer);
  if (status == QE_OK) plan->phases++;
  return status;
}
