/* Phases of gradient training: what methods that train are made of, one after the other, and resumed in any. */
#ifndef QE_METHODS_PHASE_H
#define QE_METHODS_PHASE_H

#include "core/methods/method.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_FLOAT_PHASE "float"

/* Trains the model to the end of the phase, from the run's checkpoint when that is of this phase; the model then holds
 * the trained parameters. `phase` must outlive the run. */
QE_CHECKED qe_status qe_method_phase(const qe_setting *setting, qe_model *model, const qe_train_options *options,
                                     const char *phase, qe_score *final);
/* Full-precision training of the model's parameters by setting->float_options, unless the run starts from a file, wants
 * no such epochs, or was stopped in a later phase. */
QE_CHECKED qe_status qe_method_pretrain(const qe_setting *setting, qe_model *model);
/* Whether a resumed run was stopped in a phase that comes after `phase` in `phases` (in their order, NULL past the
 * last): then `phase` is done, and its result in the checkpoint. */
bool qe_method_phase_is_past(const qe_setting *setting, const char *const *phases, const char *phase);
/* Fills result->integer where the model has an integer network. */
QE_CHECKED qe_status qe_method_score_integer(const qe_setting *setting, const qe_model *model, qe_result *result);
/* Appends full-precision training to a plan, where qe_method_pretrain would train. */
QE_CHECKED qe_status qe_method_plan_pretraining(const qe_setting *setting, qe_model *model, qe_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
