/* Options: copies of them, and back to defaults. */
#include "core/base/options_internal.h"

qe_status qe_option_reset(qe_options *options, const char *name) {
  const qe_option *row = qe_options_row(options, name);
  if (!row) return qe_fail(QE_USAGE, "no such option: %.60s", name);
  qe_option_value *value = &options->values[row - options->table];
  const char *initial = row->initial ? row->initial : row->type == QE_OPTION_FLAG ? "false" : NULL;
  qe_option_value_free(value);
  *value = (qe_option_value){.text = NULL};
  return initial ? qe_option_set(options, name, initial, QE_FROM_DEFAULT, name, NULL) : QE_OK;
}

static qe_status copy_values(const qe_options *from, qe_options *to) {
  for (size_t i = 0; i < from->count; i++) {
    const qe_option_value *value = &from->values[i];
    const char *name = from->table[i].name;
    if (value->text) QE_TRY(qe_option_set(to, name, value->text, value->source, name, value->origin));
  }
  return qe_option_steps_copy(from, to);
}

qe_status qe_options_copy(const qe_options *options, qe_options **out) {
  qe_options *made;
  QE_TRY(qe_options_new(options->table, options->count, options->command, &made));
  qe_status status = copy_values(options, made);
  if (status == QE_OK)
    *out = made;
  else
    qe_options_free(made);
  return status;
}
