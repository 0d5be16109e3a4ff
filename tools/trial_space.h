/* What a search over settings may change: options of the table, with the values that they may have. */
#ifndef QE_TOOLS_TRIAL_SPACE_H
#define QE_TOOLS_TRIAL_SPACE_H

#include "core/search/trials.h"
#include "tools/command.h"

typedef struct qe_trial_variable {
  char *name; /* as the recipe has it: "rate", "polish.budget", "layer-bits[fc]" */
  char *step; /* NULL: of the whole */
  char *option;
  char *item; /* "fc": a NAME=VALUE of the option's list; NULL: the whole value */
  const qe_option *row;
  bool log, whole, ordered;
  double from, to;
  char **choice; /* NULL: a number */
  int choices;
} qe_trial_variable;

typedef struct qe_trial_space {
  char *origin;                /* of messages: "mine.yaml:7: search.variables" */
  qe_trial_variable *variable; /* [count] */
  qe_search_variable *search;  /* [count]: the same for the searcher; logarithms and numbers of choices */
  int count;
} qe_trial_space;

/* Whether the option is one of the search itself; whether all trials must have it in common. */
bool qe_trial_is_of_search(const char *option);
bool qe_trial_has_in_common(const char *option);

/* Reads search-variables and checks that the options take the values. QE_USAGE with the place, the variable and the
 * cure. The option table must outlive the space. */
QE_CHECKED qe_status qe_trial_space_read(const qe_options *options, qe_trial_space *space);
void qe_trial_space_free(qe_trial_space *space);

/* The text of a value (qe_trial_search_setting.text; `space` is the context). */
void qe_trial_space_text(void *space, int32_t variable, double x, char text[QE_TRIAL_TEXT]);
/* Gives the options the values, as later than all that was said. `origin`: "trial 7". */
QE_CHECKED qe_status qe_trial_space_apply(const qe_trial_space *space, char *const *text, const char *origin,
                                          qe_options *options);
/* The same of one variable; `label` begins the message of a failure. */
QE_CHECKED qe_status qe_trial_variable_apply(const qe_trial_variable *variable, const char *text, const char *label,
                                             const char *origin, qe_options *options);
/* New text (qe_free): what the option, or its item, has now, in its step if it is of one; "" where it has nothing. */
QE_CHECKED qe_status qe_trial_variable_now(const qe_options *options, const qe_trial_variable *variable, char **text);
/* Member "variables". */
void qe_trial_space_json(const qe_trial_space *space, qe_json *json);
/* "0.005…0.1, log", "lsq, dorefa" into text. */
const char *qe_trial_variable_text(const qe_trial_variable *variable, char text[QE_TRIAL_TEXT]);

#endif
