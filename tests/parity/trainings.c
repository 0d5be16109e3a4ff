/* Short trainings: every method of core/methods with a small drawn network on the backend and on ref, which computes in
 * double precision; what they have trained must agree.
 *
 * Judged is |a - b|^2 / |b - start|^2 over the parameters of a kind: the error of the changes that training made. A
 * float network of some steps ends near 1e-9 on the backend cpu; the bound leaves room of a hundred, and an op that is
 * wrong by a per cent is far outside. In a quantised network a rounding error may move an activation by a
 * whole code, and behind it, through batch norm over few values, everything: such a run says nothing. But most small
 * runs meet no such tie, and then agree as float ones do. So a quantised network is trained on up to TRIALS drawn data
 * sets, small ones, and one of the runs must agree within the bound; a backend that is wrong agrees in none. */
#include "core/base/alloc.h"
#include "core/base/safetensors.h"
#include "core/graph/graph.h"
#include "core/methods/method.h"
#include "tests/draws.h"
#include "tests/parity/parity.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  SIDE = 8,
  CLASSES = 4,
  STEPS = 3,
  BATCH = 8,
  TEST_IMAGES = 12,
  TRIALS = 8,
  KINDS = 3,
  PATH = 256,
  FILE_PATH = 320
};
static const double float_bound = 1e-7, quantised_bound = 1e-5, loss_bound = 1e-3;
static const char *const kinds[KINDS] = {"weights", "vectors", "steps"};

/* What a training run leaves behind. */
typedef struct trained {
  qe_tensors *tensors; /* of its last model */
  qe_result result;
} trained;

typedef struct plan {
  uint64_t seed;
  const qe_method *method;
  qe_model_spec spec;
  qe_train_options options, float_options;
  qe_sqwa_options sqwa;
  qe_gradfreebits_options gradfreebits;
  qe_dataset *data;
  bool quantised;
} plan;

/* ---- drawing ---- */

/* A pattern a class under noise. */
static void draw_images(draws *from, int32_t count, uint8_t *pixels, int32_t *labels) {
  for (int32_t i = 0; i < count; i++) {
    labels[i] = i % CLASSES;
    for (int32_t k = 0; k < SIDE * SIDE * 3; k++) {
      int32_t shade = (labels[i] + 1) * (k / 6 + k % 3) % 2 ? 170 : 80;
      *pixels++ = (uint8_t)(shade + draw_range(from, -60, 60));
    }
  }
}

static qe_status draw_data(draws *from, int32_t images, qe_dataset **out) {
  qe_dataset *data = QE_NEW(qe_dataset);
  if (!data) return QE_NO_MEMORY;
  *out = data;
  data->classes = CLASSES;
  data->height = data->width = SIDE;
  data->channels = 3;
  QE_TRY(qe_dataset_alloc(data, images, TEST_IMAGES));
  draw_images(from, images, data->train_pixels, data->train_labels);
  draw_images(from, TEST_IMAGES, data->test_pixels, data->test_labels);
  return QE_OK;
}

static qe_train_options draw_options(draws *from) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 1;
  options.batch = BATCH;
  options.eval_batch = TEST_IMAGES;
  options.optimizer = draw_range(from, 0, 3) ? QE_OPTIMIZER_SGD : QE_OPTIMIZER_ADAM;
  options.epsilon = 1e-3; /* Adam divides by the gradient's size: where that is rounding only, all of it would show */
  options.schedule.kind = QE_SCHEDULE_CONSTANT;
  options.schedule.rate = options.optimizer == QE_OPTIMIZER_SGD ? 0.01 : 0.001;
  options.accumulate = draw_range(from, 0, 3) ? 1 : 2;
  options.clip_norm = draw_range(from, 0, 2) ? 0 : 1;
  options.ema = draw_range(from, 0, 3) ? 0 : 0.9;
  options.smoothing = draw_range(from, 0, 2) ? 0 : 0.1f;
  options.pad = draw_range(from, 0, 2);
  options.flip = draw_range(from, 0, 1);
  return options;
}

/* Of float networks only: pixels of many more values are many more that may lie on a tie. */
static void draw_augmentation(draws *from, qe_train_options *options) {
  if (draw_range(from, 0, 1)) options->cutout = draw_range(from, 1, SIDE / 2);
  for (int k = 0; k < QE_JITTERS; k++) options->jitter[k] = 0.2 * draw_range(from, 0, 2);
  if (draw_range(from, 0, 1)) options->mixup = 0.5 * draw_range(from, 1, 4);
}

/* A second network: half of the plans have one. Drawn last, so that no other draw depends on it. */
static void draw_distillation(draws *from, const qe_method *method, qe_train_options *options) {
  qe_distill_options *distill = &options->distill;
  if (draw_range(from, 0, 1)) return;
  distill->mode = (qe_distill)draw_range(from, QE_DISTILL_FROZEN, QE_DISTILLS - 1);
  distill->loss = (qe_guide)draw_range(from, 0, QE_GUIDES - 1);
  distill->hint = (qe_hint_form)draw_range(from, 0, QE_HINT_FORMS - 1);
  distill->temperature = draw_range(from, 1, 3);
  distill->twin_hint_weight = 0.5 * draw_range(from, 0, 1);
  if (distill->mode == QE_DISTILL_AVERAGE && method->run != qe_train_qat)
    distill->mode = QE_DISTILL_SELF; /* others may have phases without a moving average */
  if (distill->mode == QE_DISTILL_AVERAGE) options->ema = 0.9;
}

/* The first of each four is a float network, where the method takes one. */
static void draw_spec(draws *from, plan *p) {
  static const int bits[] = {2, 3, 4, 8};
  static const char *const models[] = {"mlp", "resnet20"};
  int32_t model = draw_range(from, 0, 1) && p->method->run != qe_train_gradfreebits;
  p->spec = qe_model_default(models[model]);
  p->spec.height = p->spec.width = SIDE;
  p->spec.classes = CLASSES;
  p->spec.shortcut = draw_range(from, 0, 1) ? 'A' : 'B';
  p->quantised = p->seed % 4 != 1 || p->method->run == qe_train_progressive || p->method->run == qe_train_gradfreebits;
  if (!p->quantised) return;
  int32_t least = model == 0 ? 0 : 2; /* twenty layers of 2 or 3 bits meet a tie on nearly every data set */
  p->spec.bits.weights = bits[draw_range(from, least, 3)];
  p->spec.bits.activations = bits[draw_range(from, least, 3)];
  p->spec.bits.edges = p->spec.bits.residual = 8;
  p->spec.bits.per_channel = draw_range(from, 0, 3) == 0;
}

/* The method sqwa takes weights with fixed steps: a cycle of an epoch, its captured model averaged with nothing, batch
 * norm's statistics anew, and of networks that are not deep an epoch of fine-tuning. More would be more ties. */
static void draw_averaging(plan *p) {
  p->sqwa = qe_sqwa_defaults();
  p->sqwa.captures = 1;
  p->sqwa.fine_epochs = strcmp(p->spec.name, "mlp") == 0;
  p->sqwa.norm_images = BATCH;
  p->options.schedule.cycle = 1;
  if (strcmp(p->method->name, "sqwa") == 0) p->spec.bits.weight_rule = QE_RULE_L2;
}

/* The method gradfreebits: an epoch at bits that are drawn, and one at the start's; nothing is searched, for what is
 * chosen would hang on the last bit of a loss. Deep networks meet a tie at nearly every draw. */
static void draw_allocation(plan *p) {
  p->gradfreebits = qe_gradfreebits_defaults();
  p->gradfreebits.rounds = p->gradfreebits.random_epochs = 1;
  p->gradfreebits.pretrain_epochs = p->gradfreebits.generations = p->gradfreebits.norm_images = 0;
  p->gradfreebits.batch = BATCH / 2;
  p->gradfreebits.batches = p->gradfreebits.confirm_batches = 1;
  p->gradfreebits.random_span = 1;
}

static double bound_of(const plan *p) {
  return p->quantised ? quantised_bound : float_bound;
}

/* Stochastic precision for half of the quantised networks; so small a training is all before it ends. */
static void draw_gates(draws *from, qe_gate_options *gates) {
  if (draw_range(from, 0, 1)) return;
  *gates = (qe_gate_options){.unit = (qe_gate_unit)draw_range(from, QE_GATE_LAYER, QE_GATE_NETWORK),
                             .draw = (qe_gate_draw)draw_range(from, 0, QE_DRAWS - 1),
                             .growth = (qe_gate_growth)draw_range(from, 0, QE_GROWTHS - 1),
                             .start = 0.5,
                             .until = 1,
                             .separate = draw_range(from, 0, 1)};
}

/* Quantised networks get few images, deep ones a single step: the fewer values are rounded, the fewer ties there are.
 */
static qe_status plan_draw(uint64_t seed, uint64_t trial, const qe_method *method, plan *p) {
  draws from = {seed, 0}, images = {seed, (trial + 1) << 32};
  *p = (plan){.seed = seed, .method = method};
  draw_spec(&from, p);
  p->options = draw_options(&from);
  p->float_options = draw_options(&from);
  p->options.seed = p->float_options.seed = draw_word(&images);
  draw_averaging(p);
  draw_allocation(p);
  bool deep = strcmp(p->spec.name, "mlp") != 0;
  if (!p->quantised) {
    p->float_options.epochs = draw_range(&from, 0, 1);
    draw_augmentation(&from, &p->options);
    draw_augmentation(&from, &p->float_options);
    draw_distillation(&from, method, &p->options);
    return draw_data(&images, STEPS * BATCH, &p->data);
  }
  p->float_options.epochs = 0;
  draw_gates(&from, &p->options.gates);
  p->options.batch = deep ? BATCH / 2 : BATCH;
  p->options.accumulate = 1;
  if (p->method->run == qe_train_progressive) p->options.epochs = 2;
  draw_distillation(&from, method, &p->options);
  return draw_data(&images, p->options.batch, &p->data);
}

/* ---- runs ---- */

static void remove_files(const char *folder) {
  char path[FILE_PATH];
  DIR *listing = opendir(folder);
  for (struct dirent *entry; listing && (entry = readdir(listing));) {
    int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (length > 0 && (size_t)length < sizeof path) (void)!unlink(path); /* "." and ".." stay */
  }
  if (listing) closedir(listing);
  (void)!rmdir(folder);
}

static qe_status run_in_folder(const plan *p, qe_device *device, const char *folder, trained *to) {
  qe_run *run = NULL;
  char path[FILE_PATH];
  QE_TRY(qe_run_open(&(qe_run_options){.folder = folder}, NULL, &run));
  qe_setting setting = {.device = device,
                        .data = p->data,
                        .spec = p->spec,
                        .options = p->options,
                        .float_options = p->float_options,
                        .progressive = {.stages = "two-stage"},
                        .sqwa = p->sqwa,
                        .gradfreebits = p->gradfreebits,
                        .run = run};
  qe_status status = p->method->run(&setting, &to->result);
  qe_run_close(run);
  snprintf(path, sizeof path, "%s/last.safetensors", folder);
  if (status == QE_OK) status = qe_tensors_read(path, &to->tensors);
  return status;
}

static qe_status train(const plan *p, qe_device *device, trained *to) {
  const char *base = getenv("TMPDIR");
  char folder[PATH];
  snprintf(folder, sizeof folder, "%s/qevo-parity-XXXXXX", base && *base ? base : "/tmp");
  if (!mkdtemp(folder)) return qe_fail(QE_IO, "cannot make a folder like %s", folder);
  qe_status status = run_in_folder(p, device, folder, to);
  remove_files(folder);
  return status;
}

/* ---- comparison ---- */

typedef struct judge {
  const plan *plan;
  parity_cell *cell;
  parity_report *report;
} judge;

static void say(const judge *j, parity_wrong wrong, const char *what) {
  char rerun[64];
  snprintf(rerun, sizeof rerun, "training seed=%" PRIu64, j->plan->seed);
  parity_report_wrong(j->report, wrong, j->cell, rerun, "  %s, %s, w%da%d: %s\n  line for regress.txt: %s\n",
                      j->plan->method->name, j->plan->spec.name, j->plan->spec.bits.weights,
                      j->plan->spec.bits.activations, what, rerun);
}

/* How far two runs are apart. */
typedef struct distance {
  double apart[KINDS], change[KINDS]; /* sums of squares */
  double loss;                        /* on the test images, relative */
  bool finite, alike;                 /* all numbers; the same parameters and images */
} distance;

/* Steps have no start: theirs is 0, for they are fitted first. */
static void add_tensor(const qe_named_tensor *got, const qe_named_tensor *wanted, const qe_named_tensor *start,
                       distance *to) {
  const float *a = got->data, *b = wanted->data, *c = start ? start->data : NULL;
  int kind = !start ? 2 : wanted->rank > 1 ? 0 : 1;
  for (size_t i = 0; i < wanted->bytes / sizeof *b; i++) {
    double apart = (double)a[i] - (double)b[i], change = (double)b[i] - (c ? (double)c[i] : 0);
    to->apart[kind] += apart * apart;
    to->change[kind] += change * change;
    to->finite = to->finite && isfinite(a[i]);
  }
}

static distance distance_of(const trained *got, const trained *wanted, const qe_tensors *start) {
  const qe_score *ours = &got->result.final, *theirs = &wanted->result.final;
  distance found = {.finite = true, .alike = got->tensors->count == wanted->tensors->count};
  for (size_t i = 0; i < wanted->tensors->count && found.alike; i++) {
    const qe_named_tensor *b = &wanted->tensors->items[i], *a = qe_tensors_find(got->tensors, b->name);
    found.alike = a && a->bytes == b->bytes && a->dtype == b->dtype;
    if (found.alike && b->dtype == QE_F32) add_tensor(a, b, qe_tensors_find(start, b->name), &found);
  }
  found.alike = found.alike && ours->images == theirs->images;
  found.loss = fabs(ours->loss - theirs->loss) / fabs(theirs->loss);
  return found;
}

static double error_of(const distance *found, int kind) {
  return found->change[kind] > 0 ? found->apart[kind] / found->change[kind] : found->apart[kind];
}

/* The loss after training is not judged in quantised networks: a tie while it is evaluated says nothing. */
static bool within(const judge *j, const distance *found) {
  double worst = 0;
  for (int kind = 0; kind < KINDS; kind++) worst = fmax(worst, error_of(found, kind));
  bool good = found->finite && found->alike && worst <= bound_of(j->plan);
  good = good && (j->plan->quantised ? isfinite(found->loss) : found->loss <= loss_bound);
  if (good && worst > j->cell->worst) j->cell->worst = worst;
  return good;
}

static void say_distance(const judge *j, const distance *found) {
  char what[320];
  snprintf(what, sizeof what,
           "changes of %s, %s and %s: normalised squared errors %.3g, %.3g, %.3g, bound %.3g; loss on the test images: "
           "relative difference %.3g%s",
           kinds[0], kinds[1], kinds[2], error_of(found, 0), error_of(found, 1), error_of(found, 2), bound_of(j->plan),
           found->loss, found->alike ? "" : "; the models have other parameters");
  say(j, found->finite ? PARITY_VALUE : PARITY_SPECIAL, what);
}

/* The model as it begins. */
static qe_status first_values(const plan *p, qe_tensors **out) {
  qe_model *model = NULL;
  QE_TRY(qe_model_new(&p->spec, p->options.seed, &model));
  *out = qe_tensors_new();
  qe_status status = *out ? qe_model_give(model, *out) : QE_NO_MEMORY;
  qe_model_free(model);
  return status;
}

/* `agrees`: within the bounds. What is wrong is said when it can only be wrong, or on the `last` trial. */
static qe_status run_trial(const judge *j, const parity_target *target, qe_device *ref, bool last, bool *agrees) {
  trained got = {0}, wanted = {0};
  qe_tensors *start = NULL;
  qe_status status = first_values(j->plan, &start);
  if (status == QE_OK) status = train(j->plan, ref, &wanted);
  if (status == QE_OK && train(j->plan, target->device[0], &got) != QE_OK) {
    say(j, PARITY_STATUS, qe_message());
  } else if (status == QE_OK) {
    distance found = distance_of(&got, &wanted, start);
    *agrees = within(j, &found);
    if (!*agrees && (last || !found.finite || !found.alike)) say_distance(j, &found);
  }
  qe_tensors_free(start);
  qe_tensors_free(got.tensors);
  qe_tensors_free(wanted.tensors);
  return status;
}

static qe_status run_trials(const parity_target *target, qe_device *ref, const qe_method *method, uint64_t seed,
                            parity_report *report, parity_cell *cell) {
  int64_t failed = report->failed;
  bool agrees = false;
  int trials = 1;
  for (int trial = 0; trial < trials && !agrees && report->failed == failed; trial++) {
    plan p;
    judge j = {&p, cell, report};
    qe_status status = plan_draw(seed, (uint64_t)trial, method, &p);
    trials = p.quantised ? TRIALS : 1;
    if (status == QE_OK) status = run_trial(&j, target, ref, trial + 1 == trials, &agrees);
    qe_dataset_free(p.data);
    QE_TRY(status);
  }
  report->passed += agrees;
  return QE_OK;
}

static qe_status run_method(const parity_target *target, qe_device *ref, const qe_method *method, uint64_t seed,
                            parity_report *report) {
  parity_cell *cell = parity_report_cell(report, target->name, PARITY_TRAINING, method->name);
  char rerun[64];
  if (!cell) return QE_NO_MEMORY;
  snprintf(rerun, sizeof rerun, "training seed=%" PRIu64, seed);
  parity_crash_note(target->name, method->name, rerun);
  cell->ran++;
  cell->bound = quantised_bound;
  return run_trials(target, ref, method, seed, report, cell);
}

static qe_status run_seed(const parity_target *target, const parity_options *options, qe_device *ref, uint64_t seed,
                          parity_report *report) {
  for (int i = 0; qe_method_get(i); i++)
    if (!qe_method_get(i)->searches && (!options->impl || strcmp(options->impl, qe_method_get(i)->name) == 0))
      QE_TRY(run_method(target, ref, qe_method_get(i), seed, report));
  return QE_OK;
}

static qe_status run_seeds(const parity_target *target, const parity_options *options, const parity_lists *lists,
                           qe_device *ref, parity_report *report) {
  uint64_t seed;
  if (options->only_case) {
    if (sscanf(options->only_case, "training seed=%" SCNu64, &seed) != 1)
      return qe_fail(QE_USAGE, "'%s' is not 'training seed=N'", options->only_case);
    return run_seed(target, options, ref, seed, report);
  }
  for (int i = 0; i < options->trainings; i++)
    QE_TRY(run_seed(target, options, ref, options->seed + (uint64_t)i, report));
  for (size_t i = 0; i < lists->regress.count; i++)
    if (sscanf(lists->regress.line[i], "training seed=%" SCNu64, &seed) == 1)
      QE_TRY(run_seed(target, options, ref, seed, report));
  return QE_OK;
}

qe_status parity_trainings(const parity_target *target, const parity_options *options, const parity_lists *lists,
                           parity_report *report) {
  qe_registry *registry = NULL;
  qe_device *ref = NULL;
  QE_TRY(qe_registry_open(&registry));
  qe_status status = qe_device_open(registry, "ref", 0, NULL, &ref);
  if (status == QE_OK) status = run_seeds(target, options, lists, ref, report);
  qe_device_close(ref);
  qe_registry_close(registry);
  return status;
}
