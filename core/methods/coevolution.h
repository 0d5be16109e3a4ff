/* What the files of the method coevolution share; nobody else includes this. */
#ifndef QE_METHODS_COEVOLUTION_H
#define QE_METHODS_COEVOLUTION_H

#include "core/methods/method.h"

/* The network to start from: what setting->init holds (a float model is quantised at the bits of the setting, a
 * quantised model or an integer network taken as it is), else random codes. Whatever is fitted is computed by the
 * reference backend, so that the start is the same whichever backend searches. */
QE_CHECKED qe_status qe_coevolution_start(const qe_setting *setting, qe_network **start);
/* The teacher: of setting->search.teacher, else of the float model in setting->init at 8 bits; NULL: there is none. */
QE_CHECKED qe_status qe_coevolution_teacher(const qe_setting *setting, qe_network **teacher);

/* Writes report.html into the run's folder, if it has one: curves from metrics.jsonl, codes of `start` and `now`. */
QE_CHECKED qe_status qe_coevolution_report(const qe_setting *setting, const qe_network *start, const qe_network *now,
                                           const qe_result *result);

#endif
