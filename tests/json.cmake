# Print one value of a JSON file:  cmake -DFILE=F -DKEY=K -P json.cmake     Fails when the file is no JSON or lacks the key.
file(READ "${FILE}" text)
string(JSON value GET "${text}" ${KEY}) # K may be a list: a path
execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${value}")
