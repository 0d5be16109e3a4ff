/* Recipes: those built in, and the list of them that `train --list` prints. */
#include "tools/recipes.h"

#include "core/base/alloc.h"
#include "core/methods/method.h"
#include "tools/command.h"

#include <string.h>

/* Made by CMakeLists.txt of recipes/: name, 0, text, 0 for each; an empty name ends it. */
extern const char qe_recipe_texts[];

bool qe_recipe_get(int index, qe_recipe *recipe) {
  const char *at = qe_recipe_texts;
  for (int i = 0; *at; i++) {
    *recipe = (qe_recipe){.name = at, .text = at + strlen(at) + 1};
    if (i == index) return true;
    at = recipe->text + strlen(recipe->text) + 1;
  }
  return false;
}

bool qe_recipe_find(const char *name, qe_recipe *recipe) {
  for (int i = 0; qe_recipe_get(i, recipe); i++)
    if (strcmp(recipe->name, name) == 0) return true;
  return false;
}

qe_status qe_recipe_load(const qe_recipe *recipe, qe_options *options) {
  char *name = qe_format("recipe %s", recipe->name);
  if (!name) return QE_NO_MEMORY;
  qe_status status = qe_options_load_text(options, name, recipe->text, strlen(recipe->text), QE_FROM_RECIPE);
  qe_free(name);
  return status;
}

/* ---- the list ---- */

typedef struct recipe_facts {
  char *summary; /* the first comment line */
  char *method;  /* "qat"; of a pipeline "qat, then coevolution" */
  qe_options *options;
} recipe_facts;

static void facts_free(recipe_facts *facts) {
  qe_free(facts->summary);
  qe_free(facts->method);
  qe_options_free(facts->options);
}

/* New text: the methods of a pipeline's steps. */
static qe_status join_methods(const qe_options *options, char **text) {
  *text = qe_strdup("");
  qe_status status = *text ? QE_OK : QE_NO_MEMORY;
  for (int i = 0; status == QE_OK && i < qe_options_steps(options); i++) {
    qe_options *step;
    status = qe_options_step(options, i, &step);
    if (status != QE_OK) break;
    const char *method = qe_option_text(step, "method");
    char *longer = qe_format("%s%s%s", *text, i ? ", then " : "", method ? method : "?");
    qe_options_free(step);
    qe_free(*text);
    *text = longer;
    if (!longer) status = QE_NO_MEMORY;
  }
  return status;
}

static qe_status read_facts(const qe_recipe *recipe, recipe_facts *facts) {
  const char *first = recipe->text + strspn(recipe->text, "# ");
  *facts = (recipe_facts){.summary = qe_format("%.*s", (int)strcspn(first, "\n"), first)};
  QE_TRY(facts->summary ? QE_OK : QE_NO_MEMORY);
  QE_TRY(qe_options_new(qe_option_table, qe_option_table_rows, "train", &facts->options));
  QE_TRY(qe_recipe_load(recipe, facts->options));
  if (qe_options_steps(facts->options) > 0) return join_methods(facts->options, &facts->method);
  const char *method = qe_option_text(facts->options, "method");
  facts->method = qe_strdup(method ? method : "");
  return facts->method ? QE_OK : QE_NO_MEMORY;
}

static bool searches(const recipe_facts *facts) {
  const char *variables = qe_option_text(facts->options, "search-variables");
  return variables && *variables;
}

static void print_text(const qe_recipe *recipe, const recipe_facts *facts) {
  bool pipeline = qe_options_steps(facts->options) > 0;
  printf("  %s\n      %s%s%s: %s\n", recipe->name, searches(facts) ? "search over settings of " : "",
         pipeline ? "pipeline of " : "", facts->method, facts->summary);
}

static void print_member(qe_json *json, const qe_recipe *recipe, const recipe_facts *facts) {
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", recipe->name);
  bool pipeline = qe_options_steps(facts->options) > 0;
  qe_json_text(json, "method", pipeline ? "pipeline" : facts->method);
  if (pipeline) qe_json_text(json, "steps", facts->method);
  if (searches(facts)) qe_json_bool(json, "search", true);
  qe_json_text(json, "summary", facts->summary);
  qe_json_text(json, "config", recipe->text);
  qe_json_close(json);
}

/* `json` NULL: as text. */
static qe_status each_recipe(qe_json *json) {
  qe_recipe recipe;
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && qe_recipe_get(i, &recipe); i++) {
    recipe_facts facts = {0};
    status = read_facts(&recipe, &facts);
    if (status == QE_OK && json) print_member(json, &recipe, &facts);
    if (status == QE_OK && !json) print_text(&recipe, &facts);
    facts_free(&facts);
  }
  return status;
}

static void methods_json(qe_json *json) {
  qe_json_open_array(json, "methods");
  for (int i = 0; qe_method_get(i); i++) {
    qe_json_open_object(json, NULL);
    qe_json_text(json, "name", qe_method_get(i)->name);
    qe_json_text(json, "summary", qe_method_get(i)->summary);
    qe_json_close(json);
  }
  qe_json_close(json);
}

static qe_status print_json(void) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  methods_json(&json);
  qe_json_open_array(&json, "recipes");
  qe_status status = each_recipe(&json);
  if (status != QE_OK) {
    qe_json_drop(&json);
    return status;
  }
  qe_json_close(&json);
  qe_json_close(&json);
  return qe_print_json(&json);
}

qe_status qe_recipes_print(const qe_options *options) {
  if (qe_option_flag(options, "json")) return print_json();
  puts("methods, their options chosen one by one (train METHOD --help):");
  for (int i = 0; qe_method_get(i); i++) printf("  %-12s %s\n", qe_method_get(i)->name, qe_method_get(i)->summary);
  puts("\nrecipes, with all options set (train RECIPE --out FOLDER; options given beside it win):");
  QE_TRY(each_recipe(NULL));
  puts("\n'train RECIPE --dry-run' prints its config and what it will take.");
  return QE_OK;
}
