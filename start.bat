@echo off
rem Double click: sets AEGIS up and opens its window. `start.bat demo` and `start.bat test` work as in start.py.
setlocal
chcp 65001 >nul
set "PYTHONUTF8=1"
pushd "%~dp0"
set "AEGIS_PYTHON="
for %%V in (3.13 3.12 3.11) do call :look py -%%V
if not defined AEGIS_PYTHON call :look py -3
if not defined AEGIS_PYTHON call :look python
if not defined AEGIS_PYTHON goto no_python
%AEGIS_PYTHON% start.py %*
set "AEGIS_CODE=%ERRORLEVEL%"
if "%AEGIS_CODE%"=="0" goto end
echo.
echo AEGIS ended with code %AEGIS_CODE%. The reason is above.
pause
goto end

:look
if defined AEGIS_PYTHON exit /b 0
%* -c "import sys; sys.exit(sys.maxsize < 2**32 or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))" >nul 2>nul
if not errorlevel 1 set "AEGIS_PYTHON=%*"
exit /b 0

:no_python
set "AEGIS_CODE=1"
echo AEGIS needs Python 3.11, 3.12 or 3.13 (64 bit): get it from https://www.python.org/downloads/ and start again.
pause

:end
popd
exit /b %AEGIS_CODE%
