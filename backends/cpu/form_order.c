/* The order in which forms of convolution are tried for a shape: form_table.def, or $QEVO_CPU_FORM first. */
#include "backends/cpu/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct form_row {
  const char *isa;
  int32_t most, inputs;
  bool single;
  const char *order;
} form_row;

static const form_row rows[] = {
#define CPU_FORM_ROW(isa, most, inputs, single, order) {#isa, most, inputs, single, order},
#include "backends/cpu/form_table.def"
#undef CPU_FORM_ROW
};

static const char *order_of(const char *isa, const cpu_conv_shape *shape, bool single) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const form_row *row = &rows[i];
    if (strcmp(row->isa, isa) == 0 && row->single == single && shape->most <= row->most &&
        shape->inputs / shape->window.groups >= row->inputs)
      return row->order;
  }
  return "";
}

typedef struct form_list {
  const cpu_form **form;
  int32_t count;
} form_list;

/* The form with this name (`length` characters), unless it is in the list. */
static void append(form_list *list, const cpu_form *const *from, const char *name, size_t length) {
  for (; *from; from++) {
    if (strncmp((*from)->name, name, length) != 0 || (*from)->name[length]) continue;
    for (int32_t i = 0; i < list->count; i++)
      if (list->form[i] == *from) return;
    if (list->count < CPU_MAX_FORMS) list->form[list->count++] = *from;
  }
}

/* Whether a list of words has this one. */
static bool has_word(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *at = list; *at; at += strspn(at, " ")) {
    size_t next = strcspn(at, " ");
    if (next == length && strncmp(at, word, length) == 0) return true;
    at += next;
  }
  return false;
}

/* A form that only another instruction set has is none here, but no mistake either. */
qe_status cpu_form_check(const cpu_lane_kernels *kernels) {
  const char *wanted = getenv("QEVO_CPU_FORM");
  char names[128] = "";
  if (!wanted || !*wanted) return QE_OK;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (has_word(rows[i].order, wanted)) return QE_OK;
  for (const cpu_form *const *form = kernels->forms(); *form; form++) {
    if (strcmp((*form)->name, wanted) == 0) return QE_OK;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", (*form)->name);
  }
  return qe_fail(QE_USAGE, "QEVO_CPU_FORM=%s is no form of convolution; there are %s", wanted, names);
}

int32_t cpu_form_order(const cpu_lane_kernels *kernels, const cpu_conv_shape *shape, bool single,
                       const cpu_form **order) {
  const cpu_form *const *all = kernels->forms();
  form_list list = {.form = order};
  const char *wanted = getenv("QEVO_CPU_FORM");
  if (wanted && *wanted) append(&list, all, wanted, strlen(wanted));
  for (const char *name = order_of(kernels->name, shape, single); *name;) {
    size_t length = strcspn(name, " ");
    append(&list, all, name, length);
    name += length + strspn(name + length, " ");
  }
  for (const cpu_form *const *form = all; *form; form++) append(&list, all, (*form)->name, strlen((*form)->name));
  return list.count;
}
