# Manual pages and completions, printed by the program itself when it is installed. Set before this is included:
# QEVO_PROGRAM, QEVO_COMMANDS (tools/commands.def), QEVO_DOCS (a folder of the build tree), QEVO_MAN and QEVO_SHARE
# (folders below the prefix).
function(qevo_print file) # the program's output for the arguments behind `file`
  execute_process(COMMAND ${QEVO_PROGRAM} ${ARGN} OUTPUT_FILE ${file} RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "'${QEVO_PROGRAM} ${ARGN}' failed: ${code}")
  endif()
endfunction()

file(MAKE_DIRECTORY ${QEVO_DOCS})
qevo_print(${QEVO_DOCS}/qevo-gpu.1 man)
set(pages ${QEVO_DOCS}/qevo-gpu.1)
file(READ ${QEVO_COMMANDS} table)
string(REGEX MATCHALL "\nQE_COMMAND\\([a-z]+" rows "${table}") # nothing of the texts, which CMake would take for lists
foreach(row ${rows})
  string(REGEX REPLACE ".*\\(" "" command "${row}")
  qevo_print(${QEVO_DOCS}/qevo-gpu-${command}.1 man ${command})
  list(APPEND pages ${QEVO_DOCS}/qevo-gpu-${command}.1)
endforeach()
file(INSTALL DESTINATION ${CMAKE_INSTALL_PREFIX}/${QEVO_MAN}/man1 TYPE FILE FILES ${pages})

qevo_print(${QEVO_DOCS}/qevo-gpu completion bash)
qevo_print(${QEVO_DOCS}/_qevo-gpu completion zsh)
qevo_print(${QEVO_DOCS}/qevo-gpu.fish completion fish)
set(share ${CMAKE_INSTALL_PREFIX}/${QEVO_SHARE})
file(INSTALL DESTINATION ${share}/bash-completion/completions TYPE FILE FILES ${QEVO_DOCS}/qevo-gpu)
file(INSTALL DESTINATION ${share}/zsh/site-functions TYPE FILE FILES ${QEVO_DOCS}/_qevo-gpu)
file(INSTALL DESTINATION ${share}/fish/vendor_completions.d TYPE FILE FILES ${QEVO_DOCS}/qevo-gpu.fish)
