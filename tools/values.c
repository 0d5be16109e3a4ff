/* The names that an option or an argument takes, where there is a list of them. */
#include "tools/values.h"

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/methods/method.h"
#include "tools/bench.h"
#include "tools/recipes.h"

#include <string.h>

static void each_method(qe_value_visit visit, void *context) {
  for (int i = 0; qe_method_get(i); i++) visit(context, qe_method_get(i)->name);
}

static void each_method_and_recipe(qe_value_visit visit, void *context) {
  qe_recipe recipe;
  each_method(visit, context);
  for (int i = 0; qe_recipe_get(i, &recipe); i++) visit(context, recipe.name);
}

static void each_model(qe_value_visit visit, void *context) {
  for (int i = 0; qe_model_name(i); i++) visit(context, qe_model_name(i));
}

static void each_data_set(qe_value_visit visit, void *context) {
  size_t count;
  const qe_dataset_kind *kinds = qe_dataset_kinds(&count);
  for (size_t i = 0; i < count; i++) visit(context, kinds[i].name);
}

static void each_backend(qe_value_visit visit, void *context) {
  qe_registry *registry;
  visit(context, "auto");
  if (qe_registry_open(&registry) != QE_OK) return;
  for (int i = 0; i < qe_registry_count(registry); i++) visit(context, qe_registry_get(registry, i)->name);
  qe_registry_close(registry);
}

static void each_stage(qe_value_visit visit, void *context) {
  for (int i = 0; qe_search_stage_get(i); i++) visit(context, qe_search_stage_get(i)->name);
}

static void each_scheme(qe_value_visit visit, void *context) {
  for (int i = 0; qe_progressive_scheme(i); i++) visit(context, qe_progressive_scheme(i));
}

static void each_bench(qe_value_visit visit, void *context) {
  for (int i = 0; qe_bench_name(i); i++) visit(context, qe_bench_name(i));
  visit(context, "all");
}

static void each_command(qe_value_visit visit, void *context) {
  for (int i = 0; qe_command_get(i); i++) visit(context, qe_command_get(i)->name);
}

static void each_shell(qe_value_visit visit, void *context) {
  for (int i = 0; qe_shell_name(i); i++) visit(context, qe_shell_name(i));
}

typedef struct names {
  const char *of;
  void (*each)(qe_value_visit visit, void *context);
} names;

static const names of_options[] = {{"method", each_method}, {"model", each_model},
                                   {"data", each_data_set}, {"backend", each_backend},
                                   {"stages", each_stage},  {"progressive-stages", each_scheme}};
static const names of_arguments[] = {{"train", each_method_and_recipe},
                                     {"data", each_data_set},
                                     {"bench", each_bench},
                                     {"completion", each_shell},
                                     {"man", each_command}};

static bool visit_names(const names *list, size_t count, const char *of, qe_value_visit visit, void *context) {
  for (size_t i = 0; i < count; i++) {
    if (strcmp(list[i].of, of) != 0) continue;
    list[i].each(visit, context);
    return true;
  }
  return false;
}

bool qe_values_of_option(const qe_option *row, qe_value_visit visit, void *context) {
  const char *at = row->words, *word;
  size_t length;
  char text[64];
  while ((word = qe_option_next_word(&at, &length))) {
    snprintf(text, sizeof text, "%.*s", (int)length, word);
    visit(context, text);
  }
  return visit_names(of_options, sizeof of_options / sizeof *of_options, row->name, visit, context) || row->words;
}

/* Words that stand for themselves in a command's arguments: those of "get|info|list [NAME…]". */
static bool visit_words(const char *arguments, qe_value_visit visit, void *context) {
  char word[64];
  if (*arguments < 'a' || *arguments > 'z') return false;
  for (const char *at = arguments; *at && *at != ' '; at += *at == '|') {
    size_t length = strcspn(at, "| ");
    snprintf(word, sizeof word, "%.*s", (int)length, at);
    visit(context, word);
    at += length;
  }
  return true;
}

bool qe_values_of_argument(const char *command, qe_value_visit visit, void *context) {
  const qe_command *found = qe_command_find(command);
  bool has_words = found && visit_words(found->arguments, visit, context);
  return visit_names(of_arguments, sizeof of_arguments / sizeof *of_arguments, command, visit, context) || has_words;
}

bool qe_argument_is_file(const char *command) {
  const qe_command *found = qe_command_find(command);
  return found && (strstr(found->arguments, "FILE") || strstr(found->arguments, "MODEL") ||
                   strncmp(found->arguments, "RUN", 3) == 0);
}
