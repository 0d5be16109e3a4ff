/* What the files of trials share. */
#ifndef QE_SEARCH_TRIALS_PARTS_H
#define QE_SEARCH_TRIALS_PARTS_H

#include "core/search/trials.h"

void qe_trial_free(qe_trial *trial, int32_t n);
/* Empty texts and values for so many variables and objectives; `trial` is {0} after a failure. */
QE_CHECKED qe_status qe_trial_new(qe_trial *trial, int32_t n, int32_t objectives);
QE_CHECKED qe_status qe_trial_set_text(char **at, const char *text);
/* The trial becomes the list's last. */
QE_CHECKED qe_status qe_trial_list_add(qe_trial_list *list, qe_trial *trial);
/* Appends the trial's line, durably. */
QE_CHECKED qe_status qe_trial_write(const char *journal, const qe_trial *trial, const qe_search_variable *variable,
                                    int32_t n, int32_t objectives);
/* Cuts off what a crash has left of a line. */
QE_CHECKED qe_status qe_trial_trim(const char *journal);

#endif
