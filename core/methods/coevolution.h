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

#define QE_COEVOLUTION_PHASE "coevolution"
/* In the run's folder. */
#define QE_START_FILE "start.safetensors"
#define QE_TEACHER_FILE "teacher.safetensors"
#define QE_BEST_FILE "best.safetensors"
#define QE_LAST_FILE "last.safetensors"

typedef struct qe_coevolution {
  const qe_setting *setting;
  qe_network *start, *teacher, *best; /* teacher NULL: none */
  qe_evolution *evolution;
  int64_t start_loss, start_hits, best_loss, best_hits; /* on all held-out images; 0 when there are none */
  int64_t stage_loss, stage_hits;                       /* of the context when the last stage ended */
  double began, before;                                 /* seconds: the clock when it began; of the runs before this */
  double timed_at, rate;                                /* candidate-images a second since `timed_at` */
  int64_t timed_spent;
  double reported; /* seconds of the run when the report was last written */
} qe_coevolution;

double qe_coevolution_clock(void); /* seconds */
QE_CHECKED qe_status qe_coevolution_copy(const qe_network *network, qe_network **copy);
/* The evolution of s->start, with the setting's device, data and options. */
QE_CHECKED qe_status qe_coevolution_open_search(qe_coevolution *s, const qe_evolution_events *events);
/* What the evolution tells it. */
qe_evolution_events qe_coevolution_events(qe_coevolution *s);
/* Before the first stage and after each: the context on all held-out images; the best of these is the result. */
QE_CHECKED qe_status qe_coevolution_between(void *context, qe_evolution *evolution);
/* The method's own numbers of a checkpoint. */
QE_CHECKED qe_status qe_coevolution_take_numbers(qe_coevolution *s, const qe_tensors *tensors);
/* What is known so far, of a result. */
void qe_coevolution_fill(const qe_coevolution *s, qe_result *result);

/* Writes report.html into the run's folder, if it has one. That it cannot is told, and is no failure of the search. */
QE_CHECKED qe_status qe_coevolution_report(const qe_coevolution *s);

#endif
