/* Options from the command line. */
#include "core/base/alloc.h"
#include "core/base/options_internal.h"

#include <string.h>

enum { LABEL_TEXT = 96 };

typedef struct argv_reader {
  qe_options *options;
  int argc, at;
  char *const *argv;
} argv_reader;

/* The value after an option: what is attached, else the next argument. */
static qe_status take_value(argv_reader *r, const char *label, const char *attached, const char **value) {
  *value = attached;
  if (attached) return QE_OK;
  if (r->at == r->argc || strncmp(r->argv[r->at], "--", 2) == 0) return qe_fail(QE_USAGE, "%s: needs a value", label);
  *value = r->argv[r->at++];
  return QE_OK;
}

/* What does something when it is read. */
static bool is_special(const qe_option *row) {
  return strcmp(row->name, "set") == 0 || strcmp(row->name, "config") == 0;
}

/* --set NAME=VALUE, --set STEP.NAME=VALUE */
static qe_status set_pair(qe_options *options, const char *pair) {
  char hint[QE_HINT_TEXT], label[LABEL_TEXT], dashed[QE_KEY_TEXT];
  const char *equals = strchr(pair, '=');
  if (!equals || equals == pair) return qe_fail(QE_USAGE, "--set %.60s: must be NAME=VALUE", pair);
  char *name = qe_format("%.*s", (int)(equals - pair), pair);
  if (!name) return QE_NO_MEMORY;
  qe_status status;
  const qe_option *row = qe_options_row_nested(options, name, dashed);
  const char *dot = strchr(name, '.');
  if (dot && qe_options_row(options, dot + 1)) row = NULL; /* an option of a step */
  snprintf(label, sizeof label, "--set %.60s", name);
  if (!row && dot)
    status = qe_option_steps_set(options, name, equals + 1, label, "command line");
  else if (row && is_special(row))
    status = qe_fail(QE_USAGE, "%s: only as an option itself, --%s %.60s", label, name, equals + 1);
  else if (row && qe_options_belongs(options, row))
    status = qe_option_set(options, row->name, equals + 1, QE_FROM_COMMAND, label, "command line");
  else
    status = qe_fail(QE_USAGE, "%s: no such option%s", label, qe_options_hint(options, name, "", hint));
  qe_free(name);
  return status;
}

/* A row of this command with the rest of its argument after '=' or the letter (NULL: nothing). */
static qe_status take_option(argv_reader *r, const qe_option *row, const char *attached) {
  char label[LABEL_TEXT];
  const char *value;
  snprintf(label, sizeof label, "--%s", row->name);
  if (!qe_options_belongs(r->options, row))
    return qe_fail(QE_USAGE, "%s: no option of \"%s\"; it belongs to: %s", label, r->options->command, row->commands);
  if (row->type == QE_OPTION_FLAG)
    return qe_option_set(r->options, row->name, attached ? attached : "true", QE_FROM_COMMAND, label, "command line");
  QE_TRY(take_value(r, label, attached, &value));
  if (strcmp(row->name, "set") == 0) return set_pair(r->options, value);
  if (strcmp(row->name, "config") == 0) QE_TRY(qe_options_load(r->options, value, QE_FROM_CONFIG));
  return qe_option_set(r->options, row->name, value, QE_FROM_COMMAND, label, "command line");
}

static qe_status take_long(argv_reader *r, const char *name_and_value) {
  char hint[QE_HINT_TEXT];
  const char *equals = strchr(name_and_value, '=');
  char *name = equals ? qe_format("%.*s", (int)(equals - name_and_value), name_and_value) : qe_strdup(name_and_value);
  if (!name) return QE_NO_MEMORY;
  qe_status status;
  const qe_option *row = qe_options_row(r->options, name);
  const qe_option *negated = strncmp(name, "no-", 3) == 0 ? qe_options_row(r->options, name + 3) : NULL;
  if (row)
    status = take_option(r, row, equals ? equals + 1 : NULL);
  else if (negated && negated->type != QE_OPTION_FLAG)
    status = qe_fail(QE_USAGE, "--%s: --%s is not a flag, it takes a value", name, negated->name);
  else if (negated && equals)
    status = qe_fail(QE_USAGE, "--%s: takes no value", name);
  else if (negated)
    status = take_option(r, negated, "false");
  else
    status = qe_fail(QE_USAGE, "--%.60s: no such option%s", name,
                     *qe_options_hint(r->options, name, "--", hint) ? hint : "; --help lists them");
  qe_free(name);
  return status;
}

static qe_status take_short(argv_reader *r, const char *argument) {
  const qe_option *row = qe_options_row_of_letter(r->options, argument[1]);
  const char *attached = argument[2] ? argument + 2 : NULL;
  if (!row) return qe_fail(QE_USAGE, "%.60s: no such option; --help lists them", argument);
  if (row->type == QE_OPTION_FLAG && attached)
    return qe_fail(QE_USAGE, "%.60s: -%c is a flag; write flags one by one", argument, row->letter);
  return take_option(r, row, attached);
}

static bool wants_help(int argc, char *const *argv) {
  for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

qe_status qe_options_parse(qe_options *options, int argc, char *const *argv) {
  argv_reader r = {options, argc, 0, argv};
  bool only_positionals = false;
  options->help_wanted = wants_help(argc, argv);
  if (options->help_wanted) return QE_OK;
  qe_free(options->positionals);
  options->positional_count = 0;
  options->positionals = QE_NEW_ARRAY(const char *, argc);
  if (!options->positionals) return QE_NO_MEMORY;
  while (r.at < argc) {
    const char *argument = argv[r.at++];
    if (only_positionals || argument[0] != '-' || !argument[1])
      options->positionals[options->positional_count++] = argument;
    else if (strcmp(argument, "--") == 0)
      only_positionals = true;
    else if (argument[1] == '-')
      QE_TRY(take_long(&r, argument + 2));
    else
      QE_TRY(take_short(&r, argument));
  }
  return QE_OK;
}
