/* The names that an option or an argument takes, where there is a list of them: for shell completion. */
#ifndef QE_TOOLS_VALUES_H
#define QE_TOOLS_VALUES_H

#include "core/base/options.h"

typedef void (*qe_value_visit)(void *context, const char *value);

/* Visits the words of a choice and the names that are known in tables of the program (models, data sets, …); false when
 * the row takes anything. */
bool qe_values_of_option(const qe_option *row, qe_value_visit visit, void *context);
/* The same of the first argument of a subcommand. */
bool qe_values_of_argument(const char *command, qe_value_visit visit, void *context);
/* Whether that argument is a file or a folder. */
bool qe_argument_is_file(const char *command);

#endif
