/* Evaluation of the runs of a report. */
#ifndef QE_TOOLS_REPORT_RUNS_H
#define QE_TOOLS_REPORT_RUNS_H

#include "core/report/report.h"
#include "tools/setup.h"

/* Data as the run's config has them and images as its network takes them, unless the options name others. *changed:
 * they are others than before. */
QE_CHECKED qe_status qe_choose_run_data(qe_options *options, const qe_report *report, int run, bool *changed);

/* Evaluates each run's network on its own data, unless the options name other data by config file or command line. A
 * run that cannot be evaluated is reported on without; the reason stands in the report and on stderr. */
QE_CHECKED qe_status qe_evaluate_runs(qe_options *options, qe_report *report);

#endif
