/* Reports: what a run has left in its folder, as one HTML file.
 *
 * A run is a folder that `qevo-gpu train` wrote, whatever the method, finished or not; or a model or an integer network
 * alone. Several runs share the charts of the course of training; the rest follows run by run. What a page consists of
 * is the table core/report/sections.def. */
#ifndef QE_REPORT_REPORT_H
#define QE_REPORT_REPORT_H

#include "core/base/json.h"
#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_report qe_report;

QE_CHECKED qe_status qe_report_new(qe_report **report);
void qe_report_free(qe_report *report); /* NULL is fine */

/* Read a run, the folder of a pipeline with all its runs, or that of a search with its best trial. What it has not got,
 * or what cannot be read of it, is left out and named in the report. QE_NOT_FOUND: no such folder or file; QE_FORMAT:
 * it is no run, no model and no integer network. */
QE_CHECKED qe_status qe_report_add(qe_report *report, const char *path);

int qe_report_runs(const qe_report *report);
/* The run's name in the report. */
const char *qe_report_name(const qe_report *report, int run);
/* A value of the run's config.yaml; NULL: it has none. */
const char *qe_report_config(const qe_report *report, int run, const char *key);
/* Whether the run came to its end, as far as its folder tells. */
bool qe_report_finished(const qe_report *report, int run);
/* Whether it has ended, finished or not: nothing will be added to it unless it is resumed. */
bool qe_report_ended(const qe_report *report, int run);
/* Whether that is so of all runs; of a pipeline, of all its steps. */
bool qe_report_all_ended(const qe_report *report);
/* How it stands, for people: "finished", "interrupted", …, "not finished" where the folder does not tell more. */
const char *qe_report_stand(const qe_report *report, int run);
/* Whether there is a network to evaluate. */
bool qe_report_has_network(const qe_report *report, int run);
/* Height of the images that its network takes; 0: there is no network. */
int32_t qe_report_image_side(const qe_report *report, int run);

/* Evaluate the run's best network on the test images: the integer network beside its float twin, wrong answers,
 * activations. Takes two to four evaluations. When this fails the report says why (qe_message) in its place. */
QE_CHECKED qe_status qe_report_evaluate(qe_report *report, int run, qe_device *device, const qe_dataset *data,
                                        int32_t batch);
/* Say in the report why there was no evaluation. */
QE_CHECKED qe_status qe_report_say_not_evaluated(qe_report *report, int run, const char *why);

/* Replaces `path` atomically. `reload`: seconds after which a browser shall load it again, while a run goes on; 0:
 * never. */
QE_CHECKED qe_status qe_report_write(const qe_report *report, const char *path, int reload);

/* Members "runs": what the summaries say, an object a run; of a pipeline alone "pipeline", of a search alone "search"
 * as well. */
void qe_report_json(const qe_report *report, qe_json *json);

/* report.html of a run's folder, without an evaluation: for a run under way. */
QE_CHECKED qe_status qe_report_folder(const char *folder);

#ifdef __cplusplus
}
#endif
#endif
