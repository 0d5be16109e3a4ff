/* Programs: building and explaining. The plan (fusions, lifetimes, arena) is made in plan.c; run.c runs it. */
#include "core/dispatch/program.h"

#include "core/base/alloc.h"
#include "core/dispatch/program_parts.h"

#include <string.h>

qe_status qe_program_new(qe_device *device, const char *name, qe_program **out) {
  qe_program *program = QE_NEW(qe_program);
  if (!program) return QE_NO_MEMORY;
  program->device = device;
  program->name = qe_strdup(name);
  if (!program->name) {
    qe_free(program);
    return QE_NO_MEMORY;
  }
  *out = program;
  return QE_OK;
}

static void release_steps(qe_program *program) {
  for (size_t i = 0; i < program->steps; i++) {
    qe_step *step = &program->step[i];
    if (step->fusion) {
      if (step->fusion->release && step->fusion_state) step->fusion->release(step->fusion_state);
    } else {
      qe_call_release(&step->bound);
    }
  }
  program->steps = 0;
}

void qe_program_free(qe_program *program) {
  if (!program) return;
  qe_program_drop_captured(program);
  release_steps(program);
  for (size_t i = 0; i < program->values; i++) qe_free(program->value[i].name);
  if (!program->borrowed) qe_buffer_free(program->arena);
  qe_free(program->value);
  qe_free(program->call);
  qe_free(program->operand_value);
  qe_free(program->step);
  qe_free(program->name);
  qe_free(program);
}

static qe_status add_value(qe_program *program, const char *name, qe_desc desc, qe_value *out) {
  if (qe_count(&desc) == 0) {
    char text[QE_DESC_TEXT];
    return qe_fail(QE_SHAPE, "program %s: value %s has the impossible shape %s", program->name, name,
                   qe_desc_text(&desc, text));
  }
  QE_TRY(qe_reserve(&program->value, &program->value_capacity, program->values + 1, sizeof *program->value));
  char *copy = qe_strdup(name);
  if (!copy) return QE_NO_MEMORY;
  program->value[program->values] = (qe_value_info){.name = copy, .desc = desc, .first = -1, .last = -1, .view_of = -1};
  *out = (qe_value)program->values++;
  return QE_OK;
}

qe_status qe_program_bind(qe_program *program, const char *name, qe_desc desc, qe_buffer *buffer, size_t offset,
                          qe_value *value) {
  if (offset > buffer->bytes || qe_bytes(&desc) > buffer->bytes - offset)
    return qe_fail(QE_SHAPE, "program %s: value %s needs %zu bytes at %zu of a buffer of %zu", program->name, name,
                   qe_bytes(&desc), offset, buffer->bytes);
  QE_TRY(add_value(program, name, desc, value));
  program->value[*value].buffer = buffer;
  program->value[*value].offset = offset;
  return QE_OK;
}

qe_status qe_program_temp(qe_program *program, const char *name, qe_desc desc, qe_value *value) {
  return add_value(program, name, desc, value);
}

qe_status qe_program_view(qe_program *program, qe_value of, const char *name, qe_desc desc, qe_value *value) {
  const qe_value_info *base = &program->value[of];
  if (qe_bytes(&desc) != qe_bytes(&base->desc)) {
    char from[QE_DESC_TEXT], to[QE_DESC_TEXT];
    return qe_fail(QE_SHAPE, "program %s: %s %s cannot be viewed as %s", program->name, base->name,
                   qe_desc_text(&base->desc, from), qe_desc_text(&desc, to));
  }
  QE_TRY(add_value(program, name, desc, value));
  qe_value_info *view = &program->value[*value], *root = &program->value[of];
  if (root->view_of >= 0) root = &program->value[of = root->view_of];
  view->buffer = root->buffer;
  view->offset = root->offset;
  view->view_of = of;
  view->viewed = root->viewed = true;
  return QE_OK;
}

/* The value whose memory it is: of a view the value viewed. */
static qe_value_info *base_of(const qe_program *program, qe_value value) {
  qe_value of = program->value[value].view_of;
  return &program->value[of >= 0 ? of : value];
}

void qe_program_keep(qe_program *program, qe_value value) {
  base_of(program, value)->keep = true;
}

qe_desc qe_program_desc(const qe_program *program, qe_value value) {
  return program->value[value].desc;
}

const char *qe_program_value_name(const qe_program *program, qe_value value) {
  return program->value[value].name;
}

int qe_program_values(const qe_program *program) {
  return (int)program->values;
}

qe_status qe_program_call(qe_program *program, qe_op op, const qe_attrs *attrs, const qe_value *values) {
  static const qe_attrs none;
  const qe_op_info *info = qe_op_get_info(op);
  if (program->planned) return qe_fail(QE_USAGE, "program %s is planned; %s comes too late", program->name, info->name);
  qe_call call = {.op = op, .operands = info->operands, .attrs = attrs ? *attrs : none};
  for (int i = 0; i < info->operands; i++) {
    const qe_value_info *value = &program->value[values[i]];
    call.operand[i].desc = value->desc;
    if (!value->buffer && info->operand[i].role != QE_WRITE && info->operand[i].kind != QE_KIND_SHAPE &&
        !base_of(program, values[i])->written)
      return qe_fail(QE_SHAPE, "program %s: %s reads %s before anything writes it", program->name, info->name,
                     value->name);
  }
  qe_status status = qe_call_check(&call);
  if (status != QE_OK) return qe_fail_within(status, "program %s", program->name);
  QE_TRY(qe_reserve(&program->call, &program->call_capacity, program->calls + 1, sizeof *program->call));
  QE_TRY(qe_reserve(&program->operand_value, &program->operand_capacity, program->calls + 1,
                    sizeof *program->operand_value));
  for (int i = 0; i < info->operands; i++) {
    program->operand_value[program->calls].at[i] = values[i];
    if (info->operand[i].role != QE_READ) base_of(program, values[i])->written = true;
  }
  program->call[program->calls++] = call;
  return QE_OK;
}

qe_status qe_program_read(const qe_program *program, qe_queue *queue, qe_value value, void *target) {
  const qe_value_info *info = base_of(program, value);
  if (!info->buffer)
    return qe_fail(QE_USAGE, "program %s: %s was not kept; mark it with qe_program_keep", program->name,
                   program->value[value].name);
  QE_TRY(qe_queue_read(queue, info->buffer, info->offset, target, qe_bytes(&info->desc)));
  return qe_queue_wait(queue);
}

size_t qe_program_arena_bytes(const qe_program *program) {
  return program->arena ? program->arena->bytes : 0;
}

size_t qe_program_temp_bytes(const qe_program *program) {
  size_t bytes = 0;
  for (size_t i = 0; i < program->values; i++)
    if (program->value[i].first >= 0 && !program->value[i].bound && program->value[i].view_of < 0)
      bytes += qe_bytes(&program->value[i].desc);
  return bytes;
}

int qe_program_fallbacks(const qe_program *program) {
  int count = 0;
  for (size_t i = 0; i < program->steps; i++)
    if (!program->step[i].fusion && !program->step[i].bound.impl) count++;
  return count;
}

static void explain_call(const qe_program *program, size_t at, FILE *file) {
  const qe_call *call = &program->call[at];
  const qe_op_info *info = qe_op_get_info(call->op);
  fprintf(file, "      %s", info->name);
  for (int i = 0; i < call->operands; i++) {
    const qe_value_info *value = &program->value[program->operand_value[at].at[i]];
    const qe_operand *operand = &call->operand[i];
    char text[QE_DESC_TEXT];
    fprintf(file, " %s=%s:%s", info->operand[i].name, value->name, qe_desc_text(&operand->desc, text));
    if (operand->dead)
      fputs("@cache", file);
    else
      fprintf(file, "@%s+%zu", operand->buffer == program->arena ? "arena" : "bound", operand->offset);
  }
  fputc('\n', file);
}

void qe_program_explain(const qe_program *program, FILE *file) {
  fprintf(file, "program %s on %s: %zu calls in %zu steps, arena %zu bytes (%zu without reuse), %d by cpu_ref\n",
          program->name, program->device->name, program->calls, program->steps, qe_program_arena_bytes(program),
          qe_program_temp_bytes(program), qe_program_fallbacks(program));
  for (size_t i = 0; i < program->steps; i++) {
    const qe_step *step = &program->step[i];
    const char *by = step->fusion ? step->fusion->name : step->bound.impl ? step->bound.impl->name : "cpu_ref";
    fprintf(file, "  %zu %s\n", i, by);
    for (int k = 0; k < step->count; k++) explain_call(program, step->first + (size_t)k, file);
  }
}
