/* Running a program: step by step, or by repeating what the device recorded of a whole run.
 *
 * The first run on a queue is always step by step: what implementations make at first use (scratch memory, compiled
 * kernels, libraries' plans) is made then. The second is recorded. */
#include "core/dispatch/program_parts.h"

qe_status qe_step_run(qe_program *program, size_t at, qe_queue *queue) {
  const qe_step *step = &program->step[at];
  const qe_call *calls = &program->call[step->first];
  qe_status status = step->fusion
                         ? qe_queue_settle(queue, step->fusion->run(queue, calls, step->count, step->fusion_state))
                         : qe_call_run(queue, calls, &step->bound);
  if (status == QE_OK) return QE_OK;
  char text[QE_CALL_TEXT];
  return qe_fail_within(status, "program %s, step %zu, %s", program->name, at, qe_call_text(calls, text));
}

static qe_status run_steps(qe_program *program, qe_queue *queue) {
  for (size_t i = 0; i < program->steps; i++) QE_TRY(qe_step_run(program, i, queue));
  return QE_OK;
}

static bool can_capture(const qe_step *step) {
  if (step->fusion) return !step->fusion->not_captured;
  return step->bound.impl && !step->bound.impl->not_captured;
}

enum { TRIES = 2 }; /* the first may meet a new queue at an old one's address, whose memory must grow yet */

void qe_program_plan_capture(qe_program *program) {
  program->tries = program->device->table->capture_begin && program->steps > 0 ? TRIES : 0;
  for (size_t i = 0; i < program->steps; i++)
    if (!can_capture(&program->step[i])) program->tries = 0;
}

void qe_program_drop_captured(qe_program *program) {
  if (program->captured) program->device->table->captured_free(program->device, program->captured);
  program->captured = NULL;
}

static qe_status capture(qe_program *program, qe_queue *queue) {
  const qe_device_table *table = program->device->table;
  QE_TRY(table->capture_begin(queue));
  qe_status status = run_steps(program, queue);
  qe_status ended = table->capture_end(queue, &program->captured);
  if (status == QE_OK) return ended;
  qe_program_drop_captured(program);
  return status;
}

/* QE_REFUSED: it must run step by step. */
static qe_status replay(qe_program *program, qe_queue *queue) {
  if (!program->tries || program->warmed != queue) return QE_REFUSED;
  if (!program->captured && capture(program, queue) != QE_OK) {
    program->tries--;
    return QE_REFUSED;
  }
  qe_status status = program->device->table->replay(queue, program->captured);
  if (status == QE_REFUSED) qe_program_drop_captured(program);
  return status;
}

qe_status qe_program_run(qe_program *program, qe_queue *queue) {
  if (!program->ready) return qe_fail(QE_USAGE, "program %s runs only once it is planned", program->name);
  qe_status status = replay(program, queue);
  if (status != QE_REFUSED) return qe_queue_settle(queue, status);
  program->warmed = NULL;
  QE_TRY(run_steps(program, queue));
  program->warmed = queue;
  return QE_OK;
}
