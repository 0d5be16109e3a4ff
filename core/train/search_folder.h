/* Folders of searches over the settings of trainings (docs/search.md).
 *
 * The folder holds config.yaml, search.json (what is searched), trials.jsonl (core/search/trials.h), state.json, a run
 * folder for each trial ("trial-001"), and of the best one its models and, as a recipe, its config: best.yaml. A
 * process that is killed at any moment leaves a folder that can be resumed. */
#ifndef QE_TRAIN_SEARCH_FOLDER_H
#define QE_TRAIN_SEARCH_FOLDER_H

#include "core/train/run.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_TRIALS_FILE "trials.jsonl"

/* Whether the folder is that of a search. */
bool qe_search_is(const char *folder);

/* New text (qe_free): the folder of trial `number`, from 1. NULL with a message when there is no memory. */
char *qe_trial_folder(const char *folder, int number);
/* Whether the trial's run has come to its end, and whether it has begun at all. */
QE_CHECKED qe_status qe_trial_stand(const char *trial, bool *finished, bool *begun);
/* best.safetensors and, where there is one, last.safetensors of the trial, and `config` as best.yaml, into the search's
 * folder. */
QE_CHECKED qe_status qe_trial_keep_best(const char *folder, const char *trial, const char *config);
/* Removes the trial's models and checkpoints, those of its steps too; what is small stays. */
QE_CHECKED qe_status qe_trial_prune(const char *trial);

#ifdef __cplusplus
}
#endif
#endif
