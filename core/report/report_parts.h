/* What the files of reports share; nobody else includes this. */
#ifndef QE_REPORT_REPORT_PARTS_H
#define QE_REPORT_REPORT_PARTS_H

#include "core/graph/cost_table.h"
#include "core/models/model.h"
#include "core/page/page.h"
#include "core/report/history.h"
#include "core/report/report.h"
#include "core/search/trials.h"
#include "core/surface/surface.h"
#include "core/train/pipeline.h"
#include "core/train/run_state.h"

/* ---- config.yaml ---- */

typedef struct qe_config_row {
  char *key, *value, *origin; /* origin: "default", "command line", "f.yaml:3"; "" when it says none */
} qe_config_row;

typedef struct qe_config {
  qe_config_row *row;
  size_t rows, capacity;
} qe_config;

/* Rows of a YAML mapping; other things in it are passed over. QE_FORMAT when it is not YAML. */
QE_CHECKED qe_status qe_config_read(qe_config *config, const char *name, const char *text, size_t bytes);
void qe_config_free(qe_config *config);
/* NULL: not set. */
const char *qe_config_get(const qe_config *config, const char *key);
bool qe_config_is_default(const qe_config_row *row);

/* ---- weights ---- */

/* How often each code of a layer's weights occurs; of float weights how many lie in each of equally wide bins. */
typedef struct qe_layer_weights {
  const char *name; /* the graph's or the network's */
  bool codes;       /* else float: low and high are values */
  int bits, bins;
  int64_t *count, *before; /* [bins]; before: of the network that a search began with, or NULL */
  double low, high;        /* codes of the first and last bin */
  double step[2];          /* least and greatest of the layer's channels; 0: not known */
  int64_t weights, changed;
} qe_layer_weights;

/* ---- what an evaluation finds ---- */

/* Codes of a quantiser over some test images. */
typedef struct qe_activation {
  char *name;
  int bits;
  double step;                           /* 0: not known */
  double high;                           /* the largest code */
  double zero, saturated, mean, reached; /* shares of all codes; mean code; largest code met */
} qe_activation;

typedef struct qe_mistake {
  int32_t image, label, predicted;
  float confidence;
} qe_mistake;

enum { QE_MOST_MISTAKES = 24, QE_ACTIVATION_IMAGES = 250 };

typedef struct qe_findings {
  char *data, *source, *backend; /* data NULL: not evaluated */
  bool subset;                   /* a part that is built in stood in for the whole */
  char **class_name;             /* [classes], or NULL */
  int classes;
  qe_score real, integer, start, teacher; /* images 0: there is none */
  double agreement;                       /* per cent, of both */
  int64_t *confusion;                     /* [classes of the label, classes predicted] */
  qe_mistake mistake[QE_MOST_MISTAKES];   /* the surest first */
  uint8_t *pixels;                        /* of the mistakes, [mistakes, height, width, channels] */
  int mistakes, height, width, channels;
  qe_activation *activation;
  size_t activations, activation_capacity;
} qe_findings;

/* ---- runs ---- */

typedef struct qe_report_run {
  char *path, *name;
  bool folder;
  char *config_text;
  qe_config config;
  qe_run_stand stand;   /* of a folder */
  qe_run_scores scores; /* its result.json */
  qe_history history;
  char *network_file;          /* which of the folder's files is reported on */
  qe_model *model;             /* or */
  qe_network *network;         /* or neither: there is none yet */
  qe_network *start, *teacher; /* of a search, or NULL */
  qe_tensors *tensors;         /* of the file, for its metadata */
  qe_cost_table cost;
  qe_layer_weights *layer;
  size_t layers, layer_capacity;
  qe_surface *surface; /* of a folder, or NULL */
  char *problem;       /* what of the folder could not be read; NULL: nothing */
  char *why;           /* why there was no evaluation */
  qe_findings found;
} qe_report_run;

/* A pipeline: its steps are runs of the report. */
typedef struct qe_report_pipeline {
  char *path, *name;
  qe_pipeline list;
  int *run; /* of each step; -1: it has not begun */
  qe_run_stand stand;
} qe_report_pipeline;

/* A search over settings: its best trial's run, or the runs of its steps, are those of the report. */
typedef struct qe_report_search {
  char *path, *name;
  qe_trial_list trials;
  char *objective; /* "loss", of several with commas between; "": not known */
  qe_run_stand stand;
} qe_report_search;

struct qe_report {
  qe_report_run **run;
  size_t runs, capacity;
  qe_report_pipeline *pipeline; /* what the report is of; NULL: of runs that do not belong together */
  qe_report_search *search;     /* the same; with a pipeline where its trials are pipelines */
};

QE_CHECKED qe_status qe_report_run_open(const char *path, qe_report_run **run);
void qe_report_run_free(qe_report_run *run);
/* "qat", "coevolution"; "" when nothing says it. */
const char *qe_report_method(const qe_report_run *run);
bool qe_report_run_finished(const qe_report_run *run);
/* How it stands, for people: "finished", "interrupted", …, "not finished" where the folder does not tell more. */
const char *qe_report_run_stand(const qe_report_run *run);
/* The metadata of the network's file; NULL. */
const char *qe_report_meta(const qe_report_run *run, const char *key);

QE_CHECKED qe_status qe_report_count_weights(qe_report_run *run);
void qe_layer_weights_free(qe_layer_weights *weights);

QE_CHECKED qe_status qe_findings_make(qe_report_run *run, qe_device *device, const qe_dataset *data, int32_t batch);
void qe_findings_free(qe_findings *found);
/* Codes of the quantisers over the first test images, appended to the run's findings. */
QE_CHECKED qe_status qe_findings_activations(qe_report_run *run, qe_device *device, const qe_dataset *data);
/* A class by name or number. */
const char *qe_class_text(const qe_findings *found, int class, char text[QE_NUMBER_TEXT]);

/* The score to speak of: that of the integer network where there is one. images 0: none. */
qe_score qe_report_score(const qe_report_run *run);

/* New texts: a path without slashes at its end; its last part, of "." that of the folder meant. */
char *qe_report_bare_path(const char *path);
char *qe_report_path_name(const char *path);

/* ---- pipelines ---- */

/* Appends a run, whatever the folder. */
QE_CHECKED qe_status qe_report_add_run(qe_report *report, const char *path);
/* Reads a pipeline's folder; its steps that have begun become runs of the report. */
QE_CHECKED qe_status qe_report_pipeline_open(const char *path, qe_report *report, qe_report_pipeline **pipeline);
void qe_report_pipeline_free(qe_report_pipeline *pipeline); /* NULL is fine */
/* The head of the page, and a chart of accuracy through all steps. */
void qe_report_pipeline_summary(qe_page *page, const qe_report *report);
void qe_report_pipeline_course(qe_page *page, const qe_report *report);
/* The steps that search, or those that do not, one after the other as if they were one run. */
QE_CHECKED qe_status qe_report_pipeline_join(const qe_report *report, bool searches, qe_history *joined);

/* ---- searches over settings ---- */

/* Opens the folder of a search. QE_NOT_FOUND: no trial has come to a result. */
QE_CHECKED qe_status qe_report_search_open(const char *path, qe_report_search **search);
void qe_report_search_free(qe_report_search *search); /* NULL is fine */

/* ---- sections ---- */

/* One row of sections.def. `run` is NULL for a section about all of them. */
typedef void (*qe_section_function)(qe_page *page, const qe_report *report, const qe_report_run *run);

#define QE_SECTION_ALL(id, title, function)                                                                            \
  void function(qe_page *page, const qe_report *report, const qe_report_run *run);
#define QE_SECTION_RUN(id, title, function)                                                                            \
  void function(qe_page *page, const qe_report *report, const qe_report_run *run);
#include "core/report/sections.def"
#undef QE_SECTION_ALL
#undef QE_SECTION_RUN

/* Parts of heads: a network's numbers; what could not be read (`named`: below the run's name). */
void qe_report_tiles(qe_page *page, const qe_report_run *run);
void qe_report_remarks(qe_page *page, const qe_report_run *run, bool named);
/* The head of the page. */
void qe_report_summary(qe_page *page, const qe_report *report, bool live);

#endif
