/* Proof that the harness can fail: each fault of the faulty backend must be reported in its own words, and a backend
 * without a fault must pass. */
#include "tests/parity/parity.h"

#include <stdlib.h>
#include <string.h>

typedef struct fault_row {
  const char *name;
  parity_fault fault;
  const char *op; /* or what of the harness it is: PARITY_POPULATION and so on; NULL: random programs */
  unsigned wrong; /* what may be reported, a bit each; at least one must be. 0: must pass */
} fault_row;

static const fault_row rows[] = {
    {"no fault, bounded op", PARITY_FAULT_NONE, "conv2d", 0},
    {"no fault, exact op", PARITY_FAULT_NONE, "clamp", 0},
    {"no fault, updating op", PARITY_FAULT_NONE, "adam", 0},
    {"no fault, programs", PARITY_FAULT_NONE, NULL, 0},
    {"one element one off", PARITY_FAULT_OFF_BY_ONE, "clamp", 1u << PARITY_VALUE},
    {"one element one off, bounded op", PARITY_FAULT_OFF_BY_ONE, "conv2d", 1u << PARITY_VALUE},
    {"last element slightly off", PARITY_FAULT_SHIFTED, "bn_grad_x", 1u << PARITY_VALUE},
    {"last element missing", PARITY_FAULT_MISSING_TAIL, "conv2d", 1u << PARITY_SPECIAL},
    {"last element missing, exact op", PARITY_FAULT_MISSING_TAIL, "add", 1u << PARITY_SPECIAL},
    {"written past the end", PARITY_FAULT_PAST_END, "bn_stats", 1u << PARITY_AFTER},
    {"written before the start", PARITY_FAULT_BEFORE_START, "linear", 1u << PARITY_BEFORE},
    {"input changed", PARITY_FAULT_READ_ONLY, "max_pool", 1u << PARITY_READ_ONLY},
    {"input read past its end", PARITY_FAULT_READ_PAST_END, "channel_sum",
     1u << PARITY_SPECIAL | 1u << PARITY_VALUE | 1u << PARITY_REPEAT},
    {"every other run differs", PARITY_FAULT_RACE, "conv2d_grad_w", 1u << PARITY_REPEAT},
    {"first run's result kept", PARITY_FAULT_STALE, "linear_grad_w", 1u << PARITY_VALUE | 1u << PARITY_THREADS},
    {"one thread differs", PARITY_FAULT_THREADS, "bn_grad_sums", 1u << PARITY_THREADS},
    {"wrong hit count", PARITY_FAULT_HITS, "softmax_xent", 1u << PARITY_VALUE},
    {"just over the bound", PARITY_FAULT_OVER_BOUND, "bn_grad_x", 1u << PARITY_VALUE},
    {"just under the bound", PARITY_FAULT_UNDER_BOUND, "bn_grad_x", 0},
    {"NaN instead of a number", PARITY_FAULT_NAN, "quant_grad", 1u << PARITY_SPECIAL},
    {"infinity instead of a number", PARITY_FAULT_INFINITY, "sgd", 1u << PARITY_SPECIAL},
    {"no fault, NaN and infinities", PARITY_FAULT_NONE, PARITY_SPECIAL_OF "quant_grad", 0},
    {"0 instead of NaN", PARITY_FAULT_NAN_LOST, PARITY_SPECIAL_OF "clamp", 1u << PARITY_SPECIAL},
    {"0 instead of NaN, other cases", PARITY_FAULT_NAN_LOST, "clamp", 0},
    {"largest number instead of infinity", PARITY_FAULT_INFINITY_LOST, PARITY_SPECIAL_OF "bn_norm",
     1u << PARITY_SPECIAL},
    {"every case refused", PARITY_FAULT_REFUSES_ALL, "concat", 1u << PARITY_NEVER_RAN | 1u << PARITY_UNLISTED},
    {"refusal for an unlisted reason", PARITY_FAULT_REFUSES_SOME, "bias_add", 1u << PARITY_UNLISTED},
    {"error returned", PARITY_FAULT_FAILS, "subsample", 1u << PARITY_STATUS},
    {"wrong only in place", PARITY_FAULT_IN_PLACE, "bn_norm", 1u << PARITY_IN_PLACE},
    {"fused kernel computes something else", PARITY_FAULT_FUSION_VALUE, NULL, 1u << PARITY_FUSION},
    {"fused kernel leaves a value out", PARITY_FAULT_FUSION_UNWRITTEN, NULL, 1u << PARITY_FUSION},
    {"fused kernel never used", PARITY_FAULT_FUSION_NEVER, NULL, 1u << PARITY_NEVER_RAN},
    {"no fault, populations", PARITY_FAULT_NONE, PARITY_POPULATION, 0},
    {"wrong code, op by op", PARITY_FAULT_CODE, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: wrong loss", PARITY_FAULT_ENGINE_LOSS, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: wrong hits", PARITY_FAULT_ENGINE_HITS, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: wrong logit", PARITY_FAULT_ENGINE_LOGITS, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: bound ignored", PARITY_FAULT_ENGINE_BOUND, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: candidate taken for its parent", PARITY_FAULT_ENGINE_PARENT, PARITY_POPULATION, 1u << PARITY_VALUE},
    {"engine: written past the end", PARITY_FAULT_ENGINE_PAST_END, PARITY_POPULATION, 1u << PARITY_AFTER},
    {"engine: every network refused", PARITY_FAULT_ENGINE_NEVER, PARITY_POPULATION, 1u << PARITY_NEVER_RAN},
    {"no fault, training", PARITY_FAULT_NONE, PARITY_TRAINING, 0},
    {"training: one update too large", PARITY_FAULT_UPDATE, PARITY_TRAINING, 1u << PARITY_VALUE},
    {"training: one gradient too large", PARITY_FAULT_GRADIENT, PARITY_TRAINING, 1u << PARITY_VALUE},
    {"programs: one gradient too large", PARITY_FAULT_GRADIENT, NULL, 1u << PARITY_VALUE},
    {"no fault, two queues", PARITY_FAULT_NONE, PARITY_QUEUES, 0},
    {"one queue shows on another", PARITY_FAULT_QUEUES, PARITY_QUEUES, 1u << PARITY_VALUE | 1u << PARITY_SPECIAL},
};

static qe_status open_faulty(void *context, const qe_open_options *options, qe_device **device) {
  (void)context;
  return parity_faulty_backend()->open(0, options, device);
}

static parity_part part_of(const fault_row *row) {
  static const struct {
    const char *op;
    parity_part part;
  } parts[] = {
      {PARITY_POPULATION, parity_populations}, {PARITY_TRAINING, parity_trainings}, {PARITY_QUEUES, parity_queues}};
  if (row->op && strncmp(row->op, PARITY_SPECIAL_OF, strlen(PARITY_SPECIAL_OF)) == 0) return parity_specials;
  for (size_t i = 0; row->op && i < sizeof parts / sizeof parts[0]; i++)
    if (strcmp(parts[i].op, row->op) == 0) return parts[i].part;
  return row->op ? parity_sweep : parity_programs;
}

static qe_status sweep_with(const fault_row *row, parity_report *report) {
  static const parity_lists nothing_allowed;
  parity_options options = {.op = row->op, .seed = 1, .cases = 22, .programs = 28, .populations = 4, .queues = 12};
  options.trainings = 1;
  options.specials = 8;
  if (part_of(row) == parity_specials) options.op += strlen(PARITY_SPECIAL_OF);
  parity_target target;
  QE_TRY(parity_target_open(&target, "faulty", open_faulty, NULL));
  parity_faulty_select(row->fault);
  qe_status status = part_of(row)(&target, &options, &nothing_allowed, report);
  parity_faulty_select(PARITY_FAULT_NONE);
  parity_target_close(&target);
  return status;
}

/* Red for the right reason, or green where it should be; a failure must say how to see it again. */
static const char *judge(const fault_row *row, const parity_report *report, const char *text) {
  if (!row->wrong) return report->failed || !report->passed ? "should have passed" : NULL;
  if (!report->failed) return "was not noticed";
  for (int wrong = 0; wrong < PARITY_WRONGS; wrong++)
    if (report->wrong[wrong] && !(row->wrong >> wrong & 1)) return "was reported as something else";
  if (row->wrong != 1u << PARITY_NEVER_RAN && !strstr(text, "rerun: qevo-parity --backend faulty"))
    return "was reported without the line that runs it again";
  if (row->fault == PARITY_FAULT_REFUSES_ALL && !report->wrong[PARITY_NEVER_RAN]) return "was not counted as never run";
  return NULL;
}

static qe_status try_fault(const fault_row *row, parity_report *report) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) return qe_fail(QE_NO_MEMORY, "out of memory");
  parity_report inner;
  parity_report_start(&inner, out);
  qe_status status = sweep_with(row, &inner);
  parity_report_close(&inner);
  fclose(out);
  const char *why = status == QE_OK ? judge(row, &inner, text) : "stopped the harness";
  fprintf(report->out, "%-40s %-14s %s\n", row->name, row->op ? row->op : "(programs)", why ? why : "as it should be");
  if (why && status == QE_OK) fputs(text, report->out);
  report->passed += !why;
  report->failed += why != NULL;
  parity_report_end(&inner);
  free(text);
  return status;
}

qe_status parity_faults(parity_report *report) {
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) QE_TRY(try_fault(&rows[i], report));
  return QE_OK;
}
