/* What `train` is asked to do: method, recipe, and the files that recipe and config files name. */
#ifndef QE_TOOLS_TRAIN_CHOICE_H
#define QE_TOOLS_TRAIN_CHOICE_H

#include "core/methods/method.h"
#include "tools/command.h"

/* Loads what the argument METHOD|RECIPE names (a method, a built-in recipe, or a YAML file) and, with --resume, the
 * config of the run; finds the method, NULL: there is a pipeline. QE_USAGE with the nearest names for one that there is
 * not. */
QE_CHECKED qe_status qe_train_choose(qe_options *options, const qe_method **method);

/* QE_USAGE: no method or recipe is called so; with the nearest. */
qe_status qe_train_say_unknown(const char *name);

/* In a pipeline's steps: a file of an earlier step, as in "step:qat" or "step:qat/last.safetensors". */
#define QE_STEP_PREFIX "step:"

/* Relative paths in recipes and config files that are not there from the current folder are looked for beside the
 * config file, in the folder above it, and among the program's own files; the option then has that path, and a note
 * says so. QE_NOT_FOUND with these places. */
QE_CHECKED qe_status qe_train_find_files(qe_options *options);

/* Makes where the data lie an absolute path, as config.yaml shall have it: it is read from other folders, too. */
QE_CHECKED qe_status qe_train_fix_paths(qe_options *options);

#endif
