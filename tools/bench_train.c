/* The bench `train`: whole training steps a second, float and fake-quantised, on each backend asked for.
 *
 * A step is all that a trainer does for a batch: images to the device, augmentation, forward, backward, update, loss
 * back. All cases stay open and take turns, so that a change of the machine's speed meets all of them. */
#include "tools/bench_train.h"

#include "core/base/alloc.h"
#include "core/train/trainer.h"
#include "tools/peak.h"

#include <math.h>
#include <string.h>

enum { CASES = 2, MAX_ENTRIES = QE_BENCH_BACKENDS * CASES, WARM_UP = 2, MAX_STEPS = 50 };
static const double turn_seconds = 0.6; /* of a case's turn, unless --steps says how long it is */

/* Relative differences allowed; a rounding error may move a code by one, which a quantised network's gradients show. */
static const double float_bound = 1e-4, quantized_bound = 5e-2;

typedef struct entry {
  qe_device *device;
  qe_model *model;
  qe_trainer *trainer;
  int64_t steps; /* a turn */
  qe_bench_row row;
} entry;

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_dataset *data;
  entry *entries;
  int count;
  double macs[QE_BENCH_REPEATS]; /* measured peak before each round of turns */
  double bytes;                  /* measured copy rate */
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
  snprintf(e->row.name, sizeof e->row.name, "%s-float", spec.name);
  if (quantized) {
    spec.bits = (qe_bits){.weights = weights, .activations = activations, .edges = 8, .residual = 8};
    snprintf(e->row.name, sizeof e->row.name, "%s-w%da%d", spec.name, weights, activations);
  }
  QE_TRY(qe_model_new(&spec, 1, &e->model));
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

static qe_train_options train_options(const bench *b) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 1000000;
  options.batch = (int32_t)qe_option_int(b->options, "batch");
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

static qe_status open_entry(bench *b, qe_device *device, bool quantized) {
  entry *e = &b->entries[b->count++];
  e->device = device;
  e->row.bench = "train";
  e->row.backend = device->backend->name;
  e->row.unit = "images/s";
  QE_TRY(make_model(b, quantized, e));
  count_costs(e->model->graph, &e->row);
  QE_TRY(
      qe_bench_parity(device, b->devices.ref, e->model, b->data, quantized ? quantized_bound : float_bound, &e->row));
  qe_train_options options = train_options(b);
  QE_TRY(qe_trainer_new(device, e->model, b->data, &options, &e->trainer));
  QE_TRY(run_steps(e->trainer, WARM_UP));
  e->steps = qe_option_int(b->options, "steps");
  if (e->steps > 0) return QE_OK;
  double start = qe_bench_clock();
  QE_TRY(run_steps(e->trainer, 1));
  double steps = ceil(turn_seconds / (qe_bench_clock() - start));
  e->steps = steps > MAX_STEPS ? MAX_STEPS : (int64_t)steps;
  return QE_OK;
}

static qe_status take_turn(const bench *b, entry *e) {
  double images = (double)e->steps * (double)qe_option_int(b->options, "batch");
  double start = qe_bench_clock();
  QE_TRY(run_steps(e->trainer, e->steps));
  e->row.sample[e->row.samples++] = images / (qe_bench_clock() - start);
  return QE_OK;
}

static qe_status take_turns(bench *b) {
  int repeats = (int)qe_option_int(b->options, "repeat");
  QE_TRY(qe_peak_bytes(b->devices.threads, &b->bytes));
  for (int i = 0; i < b->count; i++) b->entries[i].row.samples = 0;
  for (int turn = 0; turn < repeats; turn++) {
    QE_TRY(qe_peak_macs(b->devices.threads, &b->macs[turn]));
    for (int i = 0; i < b->count; i++) QE_TRY(take_turn(b, &b->entries[i]));
  }
  double macs = qe_bench_median(b->macs, repeats);
  for (int i = 0; i < b->count; i++) {
    entry *e = &b->entries[i];
    if (!e->device->host_memory) continue; /* the limits measured are the processor's */
    e->row.peak = macs / e->row.macs;
    e->row.memory = b->bytes / e->row.bytes;
  }
  return QE_OK;
}

/* ---- the whole ---- */

static void print_limits(const bench *b) {
  double macs = qe_bench_median(b->macs, (int)qe_option_int(b->options, "repeat"));
  const qe_bench_row *row = &b->entries[0].row;
  fprintf(stderr,
          "batch %lld, %d threads; measured here: %.1f G multiply-adds/s (fp32, %s), %.1f GB/s (copy)\n"
          "a step takes %.1f M multiply-adds an image, and moves %.2f MB an image where no convolution's operands stay "
          "in a cache: at most %.0f and %.0f images/s\n",
          (long long)qe_option_int(b->options, "batch"), b->devices.threads, 1e-9 * macs, qe_peak_isa(),
          1e-9 * b->bytes, 1e-6 * row->macs, 1e-6 * row->bytes, macs / row->macs, b->bytes / row->bytes);
}

static qe_status explain(const bench *b) {
  for (int i = 0; i < b->count; i++) {
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
    for (int k = 0; k < (quantized ? CASES : 1); k++) QE_TRY(open_entry(b, b->devices.device[i], k));
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
