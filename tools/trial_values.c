/* Values of a search's variables given to options: to the whole, to a step, to one item of a list. */
#include "core/base/alloc.h"
#include "tools/trial_space.h"

#include <string.h>

/* New text: the list with the item's value replaced or added. */
static char *with_item(const char *list, const char *item, const char *value) {
  size_t length = strlen(item);
  char *made = qe_strdup("");
  for (const char *at = list ? list : ""; made && *at;) {
    size_t part = strcspn(at, ",");
    bool same = part > length && strncmp(at, item, length) == 0 && at[length] == '=';
    char *longer = same ? made : qe_format("%s%s%.*s", made, *made ? "," : "", (int)part, at);
    if (!same) qe_free(made);
    made = longer;
    at += part + (at[part] == ',');
  }
  char *whole = made ? qe_format("%s%s%s=%s", made, *made ? "," : "", item, value) : NULL;
  qe_free(made);
  return whole;
}

/* New text: what the option has now, in its step if it is of one. */
static qe_status text_now(const qe_options *options, const qe_trial_variable *v, char **text) {
  qe_options *of_step = NULL;
  int step;
  if (v->step) {
    QE_TRY(qe_options_find_step(options, v->name, v->step, &step));
    QE_TRY(qe_options_step(options, step, &of_step));
  }
  const char *now = qe_option_text(of_step ? of_step : options, v->option);
  *text = qe_strdup(now ? now : "");
  qe_options_free(of_step);
  return *text ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_trial_variable_now(const qe_options *options, const qe_trial_variable *v, char **text) {
  char *list;
  QE_TRY(text_now(options, v, text));
  if (!v->item) return QE_OK;
  list = *text;
  *text = NULL;
  size_t length = strlen(v->item);
  for (const char *at = list; *at; at += at[strcspn(at, ",")] ? strcspn(at, ",") + 1 : strcspn(at, ","))
    if (!*text && strncmp(at, v->item, length) == 0 && at[length] == '=')
      *text = qe_format("%.*s", (int)(strcspn(at, ",") - length - 1), at + length + 1);
  if (!*text) *text = qe_strdup("");
  qe_free(list);
  return *text ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_trial_variable_apply(const qe_trial_variable *v, const char *text, const char *label, const char *origin,
                                  qe_options *options) {
  char *now = NULL, *value = NULL, *pair = NULL;
  qe_status status = QE_OK;
  if (v->item) status = text_now(options, v, &now);
  if (status == QE_OK && !(value = v->item ? with_item(now, v->item, text) : qe_strdup(text))) status = QE_NO_MEMORY;
  if (status == QE_OK && v->step && !(pair = qe_format("%s.%s", v->step, v->option))) status = QE_NO_MEMORY;
  if (status == QE_OK && v->step)
    status = qe_option_steps_set(options, pair, value, label, origin);
  else if (status == QE_OK)
    status = qe_option_set(options, v->option, value, QE_FROM_COMMAND, label, origin);
  qe_free(pair);
  qe_free(value);
  qe_free(now);
  return status;
}

qe_status qe_trial_space_apply(const qe_trial_space *space, char *const *text, const char *origin,
                               qe_options *options) {
  for (int i = 0; i < space->count; i++)
    QE_TRY(qe_trial_variable_apply(&space->variable[i], text[i], space->variable[i].name, origin, options));
  return QE_OK;
}
