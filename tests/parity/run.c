/* One case through one implementation: memory images with guard zones, repeated runs, other thread counts, in place. */
#include "core/base/alloc.h"
#include "cpu_ref/ref.h"
#include "tests/parity/parity.h"

#include <string.h>

static bool is_read(const parity_job *job, int operand) {
  return job->info->operand[operand].role != QE_WRITE;
}
static bool is_written(const parity_job *job, int operand) {
  return job->info->operand[operand].role != QE_READ;
}

static bool is_judged(const parity_job *job, int operand) {
  return is_written(job, operand) && parity_special_judged(&job->drawn, operand);
}

/* ---- the image ---- */

static size_t align_up(size_t bytes) {
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

static void lay_out(parity_job *job) {
  size_t at = 0;
  for (int i = 0; i < job->info->operands; i++) {
    job->start[i] = at;
    job->at[i] = align_up(at + PARITY_GUARD);
    job->end[i] = job->at[i] + qe_bytes(&job->desc[i]);
    at = job->end[i] + PARITY_GUARD;
  }
  job->start[job->info->operands] = job->bytes = at;
}

/* Garbage everywhere, the inputs in their places. Operand `out` (-1: none) will be written over operand 0. */
static void compose(const parity_job *job, uint64_t round, const uint8_t *values, uint8_t *image) {
  parity_fill_garbage(job->drawn.seed * 16 + round, image, job->bytes);
  for (int i = 0; i < job->info->operands; i++) {
    if (!is_read(job, i))
      parity_fill_unwritten(job->drawn.seed * 16 + round, &job->desc[i], image + job->at[i]);
    else if (job->info->operand[i].kind != QE_KIND_SHAPE)
      memcpy(image + job->at[i], values + job->at[i], job->end[i] - job->at[i]);
  }
}

static qe_call make_call(const parity_job *job) {
  qe_call call = {.op = job->drawn.op, .operands = job->info->operands, .attrs = job->drawn.attrs};
  for (int i = 0; i < call.operands; i++) call.operand[i].desc = job->desc[i];
  return call;
}

static const char *text_of_call(const parity_job *job, char *text) {
  qe_call call = make_call(job);
  return qe_call_text(&call, text);
}

/* Print a failure with all that is needed to see it again. */
#define WRONG(job, report, wrong, cell, format, ...)                                                                   \
  do {                                                                                                                 \
    char call_text_[QE_CALL_TEXT], case_text_[PARITY_FULL_TEXT], full_text_[PARITY_FULL_TEXT];                         \
    parity_report_wrong(report, wrong, cell, parity_case_text(&(job)->drawn, case_text_),                              \
                        "  " format "\n  call: %s\n  case for regress.txt: %s\n", __VA_ARGS__,                         \
                        text_of_call(job, call_text_), parity_case_full_text(&(job)->drawn, full_text_));              \
  } while (0)

/* ---- judging an image ---- */

static void check_guard(const parity_job *job, parity_wrong wrong, int operand, size_t from, size_t to,
                        const char *when, parity_report *report, parity_cell *cell) {
  if (memcmp(job->got + from, job->initial + from, to - from) == 0) return;
  size_t first = from, last = to - 1;
  while (job->got[first] == job->initial[first]) first++;
  while (job->got[last] == job->initial[last]) last--;
  WRONG(job, report, wrong, cell, "operand %s lies in bytes 0...%zu; bytes %lld...%lld changed (%s)",
        job->info->operand[operand].name, job->end[operand] - job->at[operand] - 1,
        (long long)first - (long long)job->at[operand], (long long)last - (long long)job->at[operand], when);
}

static void check_values(const parity_job *job, int operand, size_t place, const char *when, parity_report *report,
                         parity_cell *cell) {
  const qe_desc *desc = &job->desc[operand];
  double bound = job->info->bound;
  parity_difference found =
      parity_compare(desc, job->got + place, job->expected + job->at[operand], bound, job->magnitudes[operand], 1e-30);
  if (found.error > cell->worst) cell->worst = found.error;
  if (!found.differs) return;
  WRONG(job, report, found.special ? PARITY_SPECIAL : PARITY_VALUE, cell,
        "operand %s, index %lld: got %.9g, reference %.9g; normalised squared error %.3g, bound %.3g (%s)",
        job->info->operand[operand].name, (long long)found.index, found.got, found.wanted, found.error, bound, when);
}

/* `out`: the operand written over operand 0, or -1. */
static void check_image(const parity_job *job, int out, const char *when, parity_report *report, parity_cell *cell) {
  for (int i = 0; i < job->info->operands; i++) {
    check_guard(job, PARITY_BEFORE, i, job->start[i], job->at[i], when, report, cell);
    check_guard(job, PARITY_AFTER, i, job->end[i], job->start[i + 1], when, report, cell);
    if (i == out)
      check_guard(job, PARITY_AFTER, i, job->at[i], job->end[i], when, report, cell);
    else if (!is_written(job, i) && !(i == 0 && out >= 0))
      check_guard(job, PARITY_READ_ONLY, i, job->at[i], job->end[i], when, report, cell);
    if (is_judged(job, i)) check_values(job, i, job->at[i == out ? 0 : i], when, report, cell);
  }
}

/* Written operands against the first run's, bit for bit. Index of the first operand that differs, or -1. */
static int differing_operand(const parity_job *job, int out) {
  for (int i = 0; i < job->info->operands; i++) {
    size_t place = job->at[i == out ? 0 : i];
    if (is_judged(job, i) && memcmp(job->got + place, job->first + job->at[i], job->end[i] - job->at[i]) != 0) return i;
  }
  return -1;
}

static void check_same(const parity_job *job, int out, parity_wrong wrong, const char *when, parity_report *report,
                       parity_cell *cell) {
  int operand = differing_operand(job, out);
  if (operand < 0) return;
  size_t size = qe_dtype_bytes(job->desc[operand].dtype), k = 0;
  const uint8_t *a = job->first + job->at[operand], *b = job->got + job->at[operand == out ? 0 : operand];
  while (memcmp(a + k * size, b + k * size, size) == 0) k++;
  float x = 0, y = 0;
  if (job->desc[operand].dtype == QE_F32) memcpy(&x, a + k * size, sizeof x), memcpy(&y, b + k * size, sizeof y);
  WRONG(job, report, wrong, cell, "operand %s, index %zu: %.9g in the first run, %.9g now (%s)",
        job->info->operand[operand].name, k, (double)x, (double)y, when);
}

/* ---- inputs and reference ---- */

static qe_status run_reference(parity_job *job, parity_report *report) {
  qe_call call = make_call(job);
  compose(job, 0, job->values, job->initial);
  memcpy(job->got, job->initial, job->bytes);
  for (int i = 0; i < call.operands; i++) call.operand[i].data = job->got + job->at[i];
  qe_status status = job->info->bound > 0 ? parity_magnitudes(&call, job->magnitudes) : QE_OK;
  if (status == QE_OK) status = qe_ref_get(call.op)(&call);
  memcpy(job->expected, job->got, job->bytes);
  if (status != QE_OK) {
    char text[QE_CALL_TEXT];
    return qe_fail_within(status, "cpu_ref on %s", qe_call_text(&call, text));
  }
  parity_cell *cell = parity_report_cell(report, PARITY_ORACLE, job->info->name, "cpu_ref");
  if (!cell) return QE_NO_MEMORY;
  cell->bound = job->info->bound;
  cell->ran++;
  check_image(job, -1, "the reference itself", report, cell);
  return QE_OK;
}

static qe_status new_images(parity_job *job) {
  uint8_t **images[] = {&job->values, &job->other, &job->expected, &job->initial, &job->got, &job->first};
  for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
    if (!(*images[i] = qe_calloc(job->bytes, 1))) return QE_NO_MEMORY;
  return QE_OK;
}

qe_status parity_job_start(parity_job *job, const parity_case *drawn, parity_report *report) {
  *job = (parity_job){.drawn = *drawn, .info = qe_op_get_info(drawn->op)};
  QE_TRY(qe_op_shapes(drawn->op, &drawn->attrs, &drawn->principal, job->desc));
  lay_out(job);
  qe_status status = new_images(job);
  for (int i = 0; status == QE_OK && i < job->info->operands; i++) {
    if (!is_read(job, i) || job->info->operand[i].kind == QE_KIND_SHAPE) continue;
    parity_fill_operand(drawn, i, &job->desc[i], 0, job->values + job->at[i]);
    parity_fill_operand(drawn, i, &job->desc[i], 1, job->other + job->at[i]);
  }
  if (status == QE_OK) status = run_reference(job, report);
  if (status != QE_OK) parity_job_end(job);
  return status;
}

void parity_job_end(parity_job *job) {
  uint8_t *images[] = {job->values, job->other, job->expected, job->initial, job->got, job->first};
  for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) qe_free(images[i]);
  parity_magnitudes_free(job->magnitudes);
  job->values = job->other = job->expected = job->initial = job->got = job->first = NULL;
}

/* ---- runs on a device ---- */

typedef struct run_session {
  qe_queue *queue;
  qe_buffer *buffer;
  qe_call call;
  qe_bound_call bound;
  int out; /* operand that lies in operand 0's memory, or -1 */
} run_session;

static qe_status session_bind(run_session *session, const parity_job *job, qe_device *device, qe_queue *queue,
                              const qe_impl *impl, int out) {
  session->queue = queue;
  session->out = out;
  if (!session->buffer) QE_TRY(qe_buffer_new(device, job->bytes, &session->buffer));
  session->call = make_call(job);
  for (int i = 0; i < session->call.operands; i++)
    qe_operand_set(&session->call.operand[i], job->desc[i], session->buffer, job->at[i == out ? 0 : i]);
  return qe_call_bind(device, &session->call, impl, &session->bound);
}

static void session_end(run_session *session) {
  qe_call_release(&session->bound);
  qe_buffer_free(session->buffer);
  session->buffer = NULL;
}

static qe_status run_once(const run_session *session, parity_job *job, uint64_t round, const uint8_t *values) {
  compose(job, round, values, job->initial);
  QE_TRY(qe_queue_write(session->queue, session->buffer, 0, job->initial, job->bytes));
  QE_TRY(qe_call_run(session->queue, &session->call, &session->bound));
  QE_TRY(qe_queue_read(session->queue, session->buffer, 0, job->got, job->bytes));
  return qe_queue_wait(session->queue);
}

/* Other inputs first (what an implementation kept of them must not show), then the case twice. Here and below, the
 * first thing wrong ends a case: what follows from it would only hide it. */
static qe_status run_repeatedly(const run_session *session, parity_job *job, parity_report *report, parity_cell *cell) {
  int64_t failed = report->failed;
  QE_TRY(run_once(session, job, 1, job->other));
  QE_TRY(run_once(session, job, 2, job->values));
  memcpy(job->first, job->got, job->bytes);
  check_image(job, -1, "first run", report, cell);
  if (report->failed > failed) return QE_OK;
  QE_TRY(run_once(session, job, 3, job->values));
  check_image(job, -1, "second run", report, cell);
  if (report->failed > failed) return QE_OK;
  check_same(job, -1, PARITY_REPEAT, "second run, other garbage around the operands", report, cell);
  return QE_OK;
}

static qe_status run_threads(const run_session *session, parity_job *job, int device, const parity_lists *lists,
                             parity_report *report, parity_cell *cell) {
  const char *when = device == 1 ? "1 thread" : "3 threads";
  QE_TRY(run_once(session, job, 3 + (uint64_t)device, job->values));
  int64_t failed = report->failed;
  check_image(job, -1, when, report, cell);
  if (report->failed > failed || differing_operand(job, -1) < 0) return QE_OK;
  if (!parity_is_allowed(lists, "threads", cell, NULL))
    check_same(job, -1, PARITY_THREADS, when, report, cell);
  else
    cell->thread_differences++;
  return QE_OK;
}

/* The output that may lie in operand 0's memory, or -1. */
static int in_place_output(const parity_job *job) {
  if (!(job->info->flags & QE_FLAG_INPLACE)) return -1;
  for (int i = 1; i < job->info->operands; i++)
    if (!is_read(job, i) && qe_same_desc(&job->desc[i], &job->desc[0])) return i;
  return -1;
}

static qe_status run_in_place(run_session *session, parity_job *job, const parity_target *target, const qe_impl *impl,
                              parity_report *report, parity_cell *cell) {
  int out = in_place_output(job);
  if (out < 0) return QE_OK;
  qe_call_release(&session->bound);
  qe_status status = session_bind(session, job, target->device[0], target->queue[0], impl, out);
  if (status == QE_REFUSED) return QE_OK; /* the next in the list may take it */
  QE_TRY(status);
  QE_TRY(run_once(session, job, 6, job->values));
  int64_t failed = report->failed;
  check_image(job, out, "in place", report, cell);
  if (report->failed > failed) return QE_OK;
  check_same(job, out, PARITY_IN_PLACE, "in place", report, cell);
  return QE_OK;
}

static const qe_impl *find_impl(const qe_device *device, qe_op op, const char *name) {
  int count = 0;
  const qe_impl *const *impls = device->table->impls(device, op, &count);
  for (int i = 0; i < count; i++)
    if (strcmp(impls[i]->name, name) == 0) return impls[i];
  return NULL;
}

static void note_refusal(const parity_job *job, const qe_device *device, const qe_impl *impl, const qe_call *call,
                         const parity_lists *lists, parity_report *report, parity_cell *cell) {
  const char *reason = impl && impl->refuse ? impl->refuse(device, call) : NULL;
  cell->refused++;
  if (reason && parity_is_allowed(lists, "machine", cell, reason))
    cell->excused = true;
  else if (!reason || !parity_is_allowed(lists, "case", cell, reason))
    WRONG(job, report, PARITY_UNLISTED, cell, "reason given: %s", reason ? reason : "none");
}

static qe_status run_device(parity_job *job, const parity_target *target, int device, const char *name,
                            const parity_lists *lists, parity_report *report, parity_cell *cell) {
  const qe_impl *impl = name ? find_impl(target->device[device], job->drawn.op, name) : NULL;
  if (name && !impl) return qe_fail(QE_NOT_FOUND, "the device with another number of threads lacks %s", name);
  run_session session = {0};
  qe_status status = session_bind(&session, job, target->device[device], target->queue[device], impl, -1);
  if (status == QE_REFUSED && device == 0)
    note_refusal(job, target->device[0], impl, &session.call, lists, report, cell);
  if (status == QE_OK && device == 0) {
    int64_t failed = report->failed;
    cell->ran++;
    status = run_repeatedly(&session, job, report, cell);
    if (status == QE_OK && report->failed == failed) status = run_in_place(&session, job, target, impl, report, cell);
  } else if (status == QE_OK) {
    status = run_threads(&session, job, device, lists, report, cell);
  }
  session_end(&session);
  return status;
}

void parity_job_run(parity_job *job, const parity_target *target, const char *impl, const parity_lists *lists,
                    parity_report *report, parity_cell *cell) {
  int64_t failed = report->failed, refused = cell->refused;
  char text[PARITY_FULL_TEXT];
  parity_crash_note(cell->backend, cell->impl, parity_case_text(&job->drawn, text));
  cell->bound = job->info->bound;
  int devices = impl ? target->devices : 1;
  for (int device = 0; device < devices && cell->refused == refused && report->failed == failed; device++) {
    qe_status status = run_device(job, target, device, impl, lists, report, cell);
    if (status == QE_OK || (status == QE_REFUSED && device == 0)) continue;
    WRONG(job, report, PARITY_STATUS, cell, "%s: %s", qe_status_name(status), qe_message());
    break;
  }
  if (report->failed == failed && cell->refused == refused) report->passed++;
}

void parity_job_choice(parity_job *job, const parity_target *target, parity_report *report, parity_cell *cell) {
  int count = 0;
  qe_device *device = target->device[0];
  const qe_impl *const *impls = device->table->impls(device, job->drawn.op, &count);
  run_session session = {0};
  qe_status status = session_bind(&session, job, device, target->queue[0], NULL, -1);
  int first = 0;
  while (first < count && impls[first]->refuse && impls[first]->refuse(device, &session.call)) first++;
  const qe_impl *wanted = first < count ? impls[first] : NULL, *taken = session.bound.impl;
  if (status != QE_OK)
    WRONG(job, report, PARITY_STATUS, cell, "choosing: %s: %s", qe_status_name(status), qe_message());
  else if (taken != wanted)
    WRONG(job, report, PARITY_CHOICE, cell, "took %s instead of %s", taken ? taken->name : "cpu_ref",
          wanted ? wanted->name : "cpu_ref");
  session_end(&session);
}

/* ---- two queues ---- */

static qe_status enqueue(const run_session *session, parity_job *job, uint64_t round) {
  compose(job, round, job->values, job->initial);
  QE_TRY(qe_queue_write(session->queue, session->buffer, 0, job->initial, job->bytes));
  QE_TRY(qe_call_run(session->queue, &session->call, &session->bound));
  return qe_queue_read(session->queue, session->buffer, 0, job->got, job->bytes);
}

static qe_status run_together(const run_session sessions[2], parity_job *const jobs[2], parity_report *report,
                              parity_cell *cell) {
  enum { ROUNDS = 3 };
  int64_t failed = report->failed;
  for (uint64_t round = 0; round < ROUNDS && report->failed == failed; round++) {
    for (int i = 0; i < 2; i++) QE_TRY(enqueue(&sessions[i], jobs[i], 10 + round));
    for (int i = 0; i < 2; i++) QE_TRY(qe_queue_wait(sessions[1 - i].queue));
    for (int i = 0; i < 2; i++) check_image(jobs[i], -1, "two queues at the same time", report, cell);
  }
  return QE_OK;
}

void parity_job_together(parity_job *a, parity_job *b, const parity_target *target, qe_queue *other,
                         parity_report *report, parity_cell *cell) {
  parity_job *const jobs[2] = {a, b};
  qe_queue *const queues[2] = {target->queue[0], other};
  run_session sessions[2] = {{0}, {0}};
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < 2; i++)
    status = session_bind(&sessions[i], jobs[i], target->device[0], queues[i], NULL, -1);
  if (status == QE_OK) status = run_together(sessions, jobs, report, cell);
  for (int i = 0; i < 2; i++) status = qe_queue_settle(queues[i], status); /* before its memory goes */
  if (status != QE_OK) WRONG(a, report, PARITY_STATUS, cell, "%s: %s", qe_status_name(status), qe_message());
  for (int i = 0; i < 2; i++) session_end(&sessions[i]);
}
