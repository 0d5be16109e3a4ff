/* Recipes: the config files of recipes/, built into the program. */
#ifndef QE_TOOLS_RECIPES_H
#define QE_TOOLS_RECIPES_H

#include "core/base/options.h"

typedef struct qe_recipe {
  const char *name; /* "resnet20-cifar10-w4a4-qat": of the file, without its ending */
  const char *text; /* YAML; its first line is a comment that says in a sentence what it trains */
} qe_recipe;

/* By number, in alphabetical order; false past the last. */
bool qe_recipe_get(int index, qe_recipe *recipe);
bool qe_recipe_find(const char *name, qe_recipe *recipe);

/* Values of the recipe, as QE_FROM_RECIPE. */
QE_CHECKED qe_status qe_recipe_load(const qe_recipe *recipe, qe_options *options);

/* The methods and the recipes, as text or, with --json, as one object. */
QE_CHECKED qe_status qe_recipes_print(const qe_options *options);

#endif
