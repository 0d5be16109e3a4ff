/* What a search over settings has come to, for people and as JSON. */
#ifndef QE_TOOLS_TRIAL_TABLE_H
#define QE_TOOLS_TRIAL_TABLE_H

#include "core/train/pipeline.h"
#include "tools/trial_run.h"

/* "rate 0.02, epochs 4" into text; what does not fit is left out. */
enum { QE_VALUES_TEXT = 512 };
const char *qe_trial_values_text(const qe_trial_list *list, const qe_trial *trial, char text[QE_VALUES_TEXT]);
/* "loss 0.5123, 81.20 % right" of a trial, or why it has failed. */
const char *qe_trial_outcome_text(const qe_trial *trial, char text[QE_VALUES_TEXT]);

/* A row a trial on stdout, the best one marked, of several objectives the front too. */
void qe_trial_table_print(const qe_trial_list *list);
/* Members "trials" and "best". */
void qe_trial_table_json(const qe_trial_list *list, qe_json *json);

#endif
