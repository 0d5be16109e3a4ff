/* The bench `train`: whole training steps a second, float and fake-quantised, on each backend asked for.
 *
 * A step is all that a trainer does for a batch: images to the device, augmentation, forward, backward, update, loss
 * back. All cases stay open and take turns, so that a change of the machine's speed meets all of them. */
#include "tools/bench_train.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/train/trainer.h"
#include "tools/setup.h"

#include <math.h>
#include <string.h>

enum {
  CASES = 2,
  MAX_ENTRIES = QE_BENCH_BACKENDS * CASES,
  WARM_UP = 2,
  MAX_STEPS = 1000,
  SLOW_BATCH = 4,
  QUANTIZED_TRIALS = 4
};
static const double turn_seconds = 0.6; /* of a case's turn, unless --steps says how long it is */

/* Relative differences allowed; a rounding error may move a code by one, which a quantised network's gradients show. In
 * TF32 and bf16 every product is rounded to 10 and 7 bits, which moves many. */
static const qe_parity_bounds bounds[QE_PRECISIONS][2] = {
    [QE_FP32] = {{.loss = 1e-4, .gradients = 1e-4}, {.loss = 5e-2, .gradients = 5e-2}},
    [QE_TF32] = {{.loss = 1e-3, .gradients = 0.1}, {.loss = 5e-2, .gradients = 0.5}},
    [QE_BF16] = {{.loss = 5e-3, .gradients = 0.4}, {.loss = 5e-2, .gradients = 0.9}},
};

typedef struct entry {
  qe_device *device;
  int number; /* of the bench's devices */
  qe_model *model;
  qe_trainer *trainer;
  int64_t batch;
  int64_t steps; /* a turn */
  qe_bench_row row;
} entry;

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_dataset *data;
  entry *entries;
  int count;
  qe_bench_limits macs, bytes; /* measured before each round of turns; before the first */
} bench;

/* ---- opening ---- */

/* A case's model: float, or at the bits asked for. */
static qe_status make_model(const bench *b, bool quantized, entry *e) {
  qe_model_spec spec = qe_model_default(qe_option_text(b->options, "model"));
  spec.height = b->data->height;
  spec.width = b->data->width;
  spec.channels = b->data->channels;
  spec.classes = b->data->classes;
  int weights = (int)qe_option_int(b->options, "weight-bits"), activations = (int)qe_option_int(b->options, "act-bits");
  snprintf(e->row.name, sizeof e->row.name, "%s-float", qe_path_name(spec.name));
  if (quantized) {
    spec.bits = (qe_bits){.weights = weights, .activations = activations, .edges = 8, .residual = 8};
    snprintf(e->row.name, sizeof e->row.name, "%s-w%da%d", qe_path_name(spec.name), weights, activations);
  }
  QE_TRY(qe_model_new_named(&spec, 1, &e->model));
  return qe_fit_steps(e->device, e->model, b->data, 1);
}

/* Nothing trained lies at or below the node: the image, perhaps reshaped. */
static bool is_image(const qe_graph *graph, qe_node node) {
  while (graph->node[node].inputs == 1 && graph->node[node].params == 0) node = graph->node[node].input[0];
  return graph->node[node].inputs == 0;
}

/* Of an image: the forward pass and both gradients of each convolution and linear layer, but no gradient for the
 * input image. Bytes are those of the operands, once for each of the three. */
static void count_costs(const qe_graph *graph, qe_bench_row *row) {
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    qe_cost cost = qe_graph_cost(graph, (qe_node)i);
    if (!cost.macs) continue;
    int passes = is_image(graph, node->input[0]) ? 2 : 3;
    row->macs += (double)(passes * cost.macs);
    row->bytes += (double)passes * (double)(qe_bytes(&graph->node[node->input[0]].output) + qe_bytes(&node->output));
  }
}

static qe_train_options train_options(const bench *b, const entry *e) {
  qe_train_options options = qe_train_defaults();
  qe_read_augmentation(b->options, &options);
  options.epochs = 1000000;
  options.batch = (int32_t)e->batch;
  options.schedule = (qe_schedule){.kind = QE_SCHEDULE_CONSTANT, .rate = 0.01};
  return options;
}

/* ---- turns ---- */

static qe_status on_step(void *context, const qe_train_progress *progress) {
  (void)progress;
  int64_t *left = context;
  return --*left > 0 ? QE_OK : QE_INTERRUPTED;
}

static qe_status run_steps(qe_trainer *trainer, int64_t steps) {
  while (steps > 0) {
    qe_status status = qe_trainer_epoch(trainer, on_step, &steps);
    if (status != QE_OK && status != QE_INTERRUPTED) return status;
  }
  return QE_OK;
}

static qe_status prepare_entry(bench *b, entry *e, bool quantized) {
  QE_TRY(make_model(b, quantized, e));
  count_costs(e->model->graph, &e->row);
  qe_precision precision = qe_precision_find(qe_option_text(b->options, "precision"));
  QE_TRY(qe_bench_parity(e->device, b->devices.ref, e->model, b->data, quantized ? QUANTIZED_TRIALS : 1,
                         &bounds[precision][quantized], &e->row));
  qe_train_options options = train_options(b, e);
  QE_TRY(qe_trainer_new(e->device, e->model, b->data, &options, &e->trainer));
  if (!qe_bench_is_slow(e->device)) QE_TRY(run_steps(e->trainer, WARM_UP));
  e->steps = qe_option_int(b->options, "steps");
  if (e->steps > 0) return QE_OK;
  double start = qe_bench_clock();
  QE_TRY(run_steps(e->trainer, 1));
  double steps = ceil(turn_seconds / (qe_bench_clock() - start));
  e->steps = steps > MAX_STEPS ? MAX_STEPS : (int64_t)steps;
  return QE_OK;
}

static qe_status open_entry(bench *b, int number, bool quantized) {
  entry *e = &b->entries[b->count++];
  e->number = number;
  e->device = b->devices.device[number];
  e->batch = qe_option_int(b->options, "batch");
  bool given = qe_option_source(b->options, "batch") != QE_FROM_DEFAULT;
  if (!given && qe_bench_is_slow(e->device)) e->batch = SLOW_BATCH;
  e->row.bench = "train";
  e->row.unit = "images/s";
  qe_bench_name_device(e->device, &e->row);
  return qe_bench_note_failure(prepare_entry(b, e, quantized), &e->row);
}

static qe_status take_turn(entry *e) {
  double images = (double)e->steps * (double)e->batch;
  double start = qe_bench_clock();
  QE_TRY(run_steps(e->trainer, e->steps));
  double seconds = qe_bench_clock() - start;
  e->row.sample[e->row.samples++] = images / seconds;
  e->row.spent += seconds;
  return QE_OK;
}

static qe_status take_turns(bench *b) {
  int repeats = (int)qe_option_int(b->options, "repeat");
  b->macs.samples = b->bytes.samples = 0;
  QE_TRY(qe_bench_limits_sample(&b->devices, QE_LIMIT_BYTES, &b->bytes));
  for (int i = 0; i < b->count; i++) b->entries[i].row.samples = 0;
  for (int turn = 0; turn < repeats; turn++) {
    QE_TRY(qe_bench_limits_sample(&b->devices, QE_LIMIT_FLOAT_MACS, &b->macs));
    for (int i = 0; i < b->count; i++) {
      entry *e = &b->entries[i];
      if (qe_bench_wants_turn(b->options, &e->row)) QE_TRY(qe_bench_note_failure(take_turn(e), &e->row));
    }
  }
  for (int i = 0; i < b->count; i++) {
    entry *e = &b->entries[i];
    if (e->row.macs > 0) e->row.peak = qe_bench_limit(&b->macs, e->number) / e->row.macs;
    if (e->row.bytes > 0) e->row.memory = qe_bench_limit(&b->bytes, e->number) / e->row.bytes;
  }
  return QE_OK;
}

/* ---- the whole ---- */

static void print_limits(const bench *b) {
  const qe_bench_row *row = &b->entries[0].row;
  qe_bench_limits_print(&b->devices, &b->macs, "G multiply-adds/s, fp32");
  qe_bench_limits_print(&b->devices, &b->bytes, "GB/s");
  fprintf(stderr,
          "batch %lld, %d threads; a step takes %.1f M multiply-adds an image, and moves %.2f MB an image where no "
          "convolution's operands stay in a cache\n",
          (long long)qe_option_int(b->options, "batch"), b->devices.threads, 1e-6 * row->macs, 1e-6 * row->bytes);
}

static qe_status explain(const bench *b) {
  for (int i = 0; i < b->count; i++) {
    if (b->entries[i].row.failed) continue;
    if (qe_option_flag(b->options, "explain")) qe_trainer_explain(b->entries[i].trainer, stderr);
    if (!qe_option_flag(b->options, "profile")) continue;
    fprintf(stderr, "%s on %s:\n", b->entries[i].row.name, b->entries[i].row.backend);
    QE_TRY(qe_trainer_profile(b->entries[i].trainer, 5, stderr));
  }
  return QE_OK;
}

static qe_status run_round(void *context, qe_bench_row **rows, size_t *count) {
  bench *b = context;
  QE_TRY(take_turns(b));
  print_limits(b);
  QE_TRY(explain(b));
  for (int i = 0; i < b->count; i++) QE_TRY(qe_bench_add_row(&b->entries[i].row, rows, count));
  return QE_OK;
}

static qe_status run(bench *b, qe_bench_row **rows, size_t *count) {
  bool quantized = qe_option_int(b->options, "weight-bits") != QE_FLOAT_BITS ||
                   qe_option_int(b->options, "act-bits") != QE_FLOAT_BITS;
  QE_TRY(qe_bench_devices_open(b->options, &b->devices));
  QE_TRY(qe_dataset_open(qe_option_text(b->options, "data"), qe_option_text(b->options, "data-dir"), &b->data));
  for (int i = 0; i < b->devices.count; i++)
    for (int k = 0; k < (quantized ? CASES : 1); k++) QE_TRY(open_entry(b, i, k));
  return qe_bench_run_rounds(b->options, run_round, b, rows, count);
}

qe_status qe_bench_train(const qe_options *options, qe_bench_row **rows, size_t *count) {
  bench *b = QE_NEW(bench);
  entry *entries = QE_NEW_ARRAY(entry, MAX_ENTRIES);
  qe_status status = QE_NO_MEMORY;
  if (b && entries) {
    *b = (bench){.options = options, .entries = entries};
    status = run(b, rows, count);
    for (int i = 0; i < b->count; i++) {
      qe_trainer_free(entries[i].trainer);
      qe_model_free(entries[i].model);
    }
    qe_dataset_free(b->data);
    qe_bench_devices_close(&b->devices);
  }
  qe_free(entries);
  qe_free(b);
  return status;
}
