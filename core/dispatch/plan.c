/* Planning a program: which calls run fused, when each temporary lives, where it lies in the arena.
 *
 * Lifetimes are counted in steps, so nothing that one step touches shares memory, but for an element-wise output that
 * takes over its dying first input. Offsets: largest first, each at the lowest place free during its life. */
#include "core/base/alloc.h"
#include "core/dispatch/program_parts.h"

#include <stdlib.h>
#include <string.h>

/* Until addresses are known, a temporary is told from all else by no buffer and its own number. */
static void set_identities(qe_program *program) {
  for (size_t i = 0; i < program->values; i++) program->value[i].bound = program->value[i].buffer != NULL;
  for (size_t c = 0; c < program->calls; c++) {
    qe_call *call = &program->call[c];
    for (int i = 0; i < call->operands; i++) {
      qe_value id = program->operand_value[c].at[i];
      const qe_value_info *value = &program->value[id];
      if (value->bound)
        qe_operand_set(&call->operand[i], value->desc, value->buffer, value->offset);
      else
        call->operand[i].offset = (size_t)(value->view_of >= 0 ? value->view_of : id);
    }
  }
}

static qe_status cut_steps(qe_program *program, bool fuse) {
  int count = 0;
  const qe_fusion *const *fusions = NULL;
  if (fuse && program->device->table->fusions) fusions = program->device->table->fusions(program->device, &count);
  for (size_t at = 0; at < program->calls;) {
    qe_step step = {.first = at, .count = 1};
    int left = program->calls - at > 4096 ? 4096 : (int)(program->calls - at);
    for (int i = 0; i < count && !step.fusion; i++) {
      int taken = fusions[i]->claim(program->device, &program->call[at], left);
      if (taken < 2) continue;
      step.fusion = fusions[i];
      step.count = taken;
    }
    QE_TRY(qe_reserve(&program->step, &program->step_capacity, program->steps + 1, sizeof step));
    program->step[program->steps++] = step;
    at += (size_t)step.count;
  }
  return QE_OK;
}

static void merge_views(qe_program *program) {
  for (size_t i = 0; i < program->values; i++) {
    qe_value_info *view = &program->value[i];
    if (view->bound || view->view_of < 0 || view->first < 0) continue;
    qe_value_info *base = &program->value[view->view_of];
    if (base->first < 0 || view->first < base->first) base->first = view->first;
    if (view->last > base->last) base->last = view->last;
    view->root = view->view_of;
  }
}

static void find_lifetimes(qe_program *program) {
  for (size_t i = 0; i < program->values; i++) program->value[i].root = (qe_value)i;
  for (size_t s = 0; s < program->steps; s++) {
    const qe_step *step = &program->step[s];
    for (size_t c = step->first; c < step->first + (size_t)step->count; c++) {
      for (int i = 0; i < program->call[c].operands; i++) {
        qe_value_info *value = &program->value[program->operand_value[c].at[i]];
        if (value->first < 0) {
          value->first = (int32_t)s;
          value->first_call = (int32_t)c;
        }
        value->last = (int32_t)s;
        value->last_call = (int32_t)c;
      }
    }
  }
  merge_views(program);
}

/* Values that only one fused run sees need no memory. */
static void elide(qe_program *program) {
  for (size_t i = 0; i < program->values; i++) {
    qe_value_info *value = &program->value[i];
    value->elided = !value->bound && !value->keep && !value->viewed && value->first >= 0 &&
                    value->first == value->last && value->first_call != value->last_call &&
                    program->step[value->first].fusion;
  }
  for (size_t s = 0; s < program->steps; s++) {
    const qe_step *step = &program->step[s];
    for (size_t c = step->first; c < step->first + (size_t)step->count; c++)
      for (int i = 0; i < program->call[c].operands; i++)
        program->call[c].operand[i].dead = program->value[program->operand_value[c].at[i]].elided;
  }
}

/* An in-place op's output takes over operand 0's memory when that call is the last to touch it. */
static void share_in_place(qe_program *program) {
  for (size_t c = 0; c < program->calls; c++) {
    const qe_op_info *info = qe_op_get_info(program->call[c].op);
    if (!(info->flags & QE_FLAG_INPLACE)) continue;
    int out = 0;
    while (out < info->operands && info->operand[out].role != QE_WRITE) out++;
    if (out == info->operands) continue;
    const qe_value_info *input = &program->value[program->operand_value[c].at[0]];
    qe_value_info *output = &program->value[program->operand_value[c].at[out]];
    bool input_dies =
        !input->bound && !input->keep && !input->viewed && !input->elided && input->last_call == (int32_t)c;
    bool output_is_new = !output->bound && !output->elided && !output->viewed && output->first_call == (int32_t)c;
    if (!input_dies || !output_is_new || !qe_same_desc(&input->desc, &output->desc)) continue;
    output->root = input->root;
    if (output->keep) program->value[input->root].keep = true;
    if (program->value[input->root].last < output->last) program->value[input->root].last = output->last;
  }
}

typedef struct block {
  qe_value value;
  size_t bytes, offset;
  int32_t first, last;
} block;

static int larger_first(const void *a, const void *b) {
  const block *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return (x->value > y->value) - (x->value < y->value);
}

static int lower_first(const void *a, const void *b) {
  const block *const *x = a, *const *y = b;
  return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* The lowest offset at which `new` overlaps none of the `placed` blocks that live at the same time. */
static size_t find_place(const block *new, const block *placed, size_t count, const block **conflict, bool reuse) {
  size_t conflicts = 0;
  for (size_t i = 0; i < count; i++)
    if (!reuse || (placed[i].first <= new->last &&new->first <= placed[i].last)) conflict[conflicts++] = &placed[i];
  qsort(conflict, conflicts, sizeof *conflict, lower_first);
  size_t offset = 0;
  for (size_t i = 0; i < conflicts; i++) {
    if (conflict[i]->offset >= offset + new->bytes) break;
    size_t end = conflict[i]->offset + conflict[i]->bytes;
    if (end > offset) offset = end;
  }
  return offset;
}

static qe_status lay_out(qe_program *program, bool reuse, size_t *arena_bytes) {
  size_t count = 0, total = 0;
  block *blocks = QE_NEW_ARRAY(block, program->values + 1);
  const block **conflict = QE_NEW_ARRAY(const block *, program->values + 1);
  qe_status status = blocks && conflict ? QE_OK : QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < program->values; i++) {
    const qe_value_info *value = &program->value[i];
    if (value->bound || value->first < 0 || value->elided || value->root != (qe_value)i) continue;
    size_t bytes = (qe_bytes(&value->desc) + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
    int32_t last = value->keep ? INT32_MAX : value->last;
    blocks[count++] = (block){(qe_value)i, bytes, 0, value->first, last};
  }
  if (status == QE_OK) qsort(blocks, count, sizeof *blocks, larger_first);
  for (size_t i = 0; status == QE_OK && i < count; i++) {
    blocks[i].offset = find_place(&blocks[i], blocks, i, conflict, reuse);
    program->value[blocks[i].value].offset = blocks[i].offset;
    if (blocks[i].offset + blocks[i].bytes > total) total = blocks[i].offset + blocks[i].bytes;
  }
  qe_free(blocks);
  qe_free(conflict);
  *arena_bytes = total;
  return status;
}

static void set_addresses(qe_program *program) {
  for (size_t i = 0; i < program->values; i++) {
    qe_value_info *value = &program->value[i];
    if (value->bound || value->first < 0 || value->elided) continue;
    value->buffer = program->arena;
    value->offset = program->value[value->root].offset;
  }
  for (size_t c = 0; c < program->calls; c++) {
    qe_call *call = &program->call[c];
    for (int i = 0; i < call->operands; i++) {
      const qe_value_info *value = &program->value[program->operand_value[c].at[i]];
      if (!value->elided) qe_operand_set(&call->operand[i], value->desc, value->buffer, value->offset);
    }
  }
}

static qe_status prepare(qe_program *program) {
  for (size_t s = 0; s < program->steps; s++) {
    qe_step *step = &program->step[s];
    const qe_call *calls = &program->call[step->first];
    qe_status status = QE_OK;
    if (!step->fusion)
      status = qe_call_bind(program->device, calls, NULL, &step->bound);
    else if (step->fusion->prepare)
      status = step->fusion->prepare(program->device, calls, step->count, &step->fusion_state);
    if (status != QE_OK) return qe_fail_within(status, "program %s, planning step %zu", program->name, s);
  }
  return QE_OK;
}

static qe_status place(qe_program *program, const qe_plan_options *options, size_t *arena_bytes) {
  if (program->planned) return qe_fail(QE_USAGE, "program %s is planned already", program->name);
  program->planned = true;
  set_identities(program);
  QE_TRY(cut_steps(program, !options->no_fusion));
  find_lifetimes(program);
  if (!options->keep_all) {
    elide(program);
    share_in_place(program);
  }
  return lay_out(program, !options->keep_all, arena_bytes);
}

qe_status qe_program_measure(qe_program *program, size_t *bytes) {
  static const qe_plan_options defaults;
  return place(program, &defaults, bytes);
}

static qe_status find_arena(qe_program *program, qe_buffer *given, size_t bytes) {
  program->borrowed = given && given->bytes >= bytes;
  if (program->borrowed) {
    program->arena = given;
    return QE_OK;
  }
  qe_status status = qe_buffer_new(program->device, bytes, &program->arena);
  if (status == QE_OK) return QE_OK;
  return qe_fail_within(status, "program %s needs %zu MiB for its arena (a smaller batch needs less)", program->name,
                        bytes >> 20);
}

qe_status qe_program_plan(qe_program *program, const qe_plan_options *options) {
  static const qe_plan_options defaults;
  if (!options) options = &defaults;
  size_t arena_bytes = 0;
  QE_TRY(place(program, options, &arena_bytes));
  QE_TRY(find_arena(program, options->arena, arena_bytes));
  set_addresses(program);
  QE_TRY(prepare(program));
  if (!options->no_capture) qe_program_plan_capture(program);
  program->ready = true;
  return QE_OK;
}
