/* Evaluation of the runs of a report. */
#ifndef QE_TOOLS_REPORT_RUNS_H
#define QE_TOOLS_REPORT_RUNS_H

#include "core/report/report.h"
#include "tools/setup.h"

/* Evaluates each run's network on its own data, unless the options name other data by config file or command line. A
 * run that cannot be evaluated is reported on without; the reason stands in the report and on stderr. */
QE_CHECKED qe_status qe_evaluate_runs(qe_options *options, qe_report *report);

#endif
