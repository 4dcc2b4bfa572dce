; The installer of AEGIS for Windows, compiled with Inno Setup 6.4 or newer:
;   ISCC /DVersion=0.1.0 /DWindow=..\dist\AEGIS packaging\aegis.iss
; It holds the frozen window; the engine is made at its first start. Not compiled on Windows by whoever wrote it:
; tests/test_packaging_installer.py holds names, files and messages together, and the Windows job compiles it.

#ifndef Version
  #error Version is missing: /DVersion=0.1.0
#endif
#ifndef Window
  #define Window "..\dist\AEGIS"
#endif
#define Program "aegis-window.exe"

[Setup]
AppId={{6D1B0A5C-3E57-4B52-9F53-0A6B8E1C7D44}
AppName=AEGIS
AppVersion={#Version}
AppVerName=AEGIS {#Version}
AppPublisher=The AEGIS project
VersionInfoVersion={#Version}
; one person's program in one person's folders: nobody is asked for a password
PrivilegesRequired=lowest
DefaultDirName={localappdata}\Programs\AEGIS
DisableProgramGroupPage=yes
DisableDirPage=auto
UsePreviousAppDir=yes
ArchitecturesAllowed=x64compatible
ArchitecturesInstallIn64BitMode=x64compatible
MinVersion=10.0.17763
; the window holds this mutex (aegis_gui/desktop/windows_presence.py): a training may run, so the person closes it
AppMutex=AEGIS-window
CloseApplications=yes
RestartApplications=no
Compression=lzma2/max
SolidCompression=yes
LicenseFile={#Window}\LICENSE.txt
InfoBeforeFile={#Window}\THIRD-PARTY-NOTICES.txt
SetupIconFile=..\build\aegis.ico
UninstallDisplayIcon={app}\{#Program}
UninstallDisplayName=AEGIS
WizardStyle=modern
OutputDir=..\dist
OutputBaseFilename=AEGIS-{#Version}-setup
ShowLanguageDialog=auto

[Languages]
Name: "japanese"; MessagesFile: "compiler:Languages\Japanese.isl"
Name: "english"; MessagesFile: "compiler:Default.isl"

[CustomMessages]
english.StartNow=Start AEGIS
japanese.StartNow=AEGIS を起動する
english.RemoveEngine=Also remove the engine?%n%nIt takes several gigabytes in%n%1%nand would be downloaded again if you install AEGIS once more.
japanese.RemoveEngine=エンジンも削除しますか?%n%n次のフォルダーにあり、数 GB を使っています。%n%1%n削除すると、AEGIS を再びインストールしたときに、もう一度ダウンロードが必要になります。
english.RemoveCache=Also remove downloaded and converted models from AEGIS's cache?%n%n%1
japanese.RemoveCache=ダウンロードや変換で作られたモデルのキャッシュも削除しますか?%n%n%1
english.RunsKept=Your runs and models were not touched.
japanese.RunsKept=これまでの実行記録とモデルは、そのまま残してあります。

[Tasks]
Name: "desktopicon"; Description: "{cm:CreateDesktopIcon}"; GroupDescription: "{cm:AdditionalIcons}"; Flags: unchecked

[InstallDelete]
; an older version's files must not stay beside the new ones
Type: filesandordirs; Name: "{app}\_internal"

[Files]
Source: "{#Window}\*"; DestDir: "{app}"; Flags: recursesubdirs createallsubdirs ignoreversion

[Icons]
Name: "{autoprograms}\AEGIS"; Filename: "{app}\{#Program}"; WorkingDir: "{app}"
Name: "{autodesktop}\AEGIS"; Filename: "{app}\{#Program}"; WorkingDir: "{app}"; Tasks: desktopicon

[Run]
Filename: "{app}\{#Program}"; Description: "{cm:StartNow}"; Flags: nowait postinstall skipifsilent

[UninstallDelete]
Type: filesandordirs; Name: "{app}\_internal"

[Code]
{ Where the program keeps things (aegis_core/resources.py, platformdirs): runs are in the documents and never touched. }
function EngineFolder: String;
begin
  Result := ExpandConstant('{localappdata}\aegis\engine');
end;

function CacheFolder: String;
begin
  Result := ExpandConstant('{localappdata}\aegis\Cache');
end;

procedure AskAndRemove(Folder, Message: String);
begin
  if DirExists(Folder) then
    if SuppressibleMsgBox(FmtMessage(CustomMessage(Message), [Folder]), mbConfirmation, MB_YESNO or MB_DEFBUTTON2, IDNO) = IDYES then
      DelTree(Folder, True, True, True);
end;

procedure CurUninstallStepChanged(CurUninstallStep: TUninstallStep);
begin
  if CurUninstallStep = usPostUninstall then
  begin
    AskAndRemove(EngineFolder, 'RemoveEngine');
    AskAndRemove(CacheFolder, 'RemoveCache');
    RemoveDir(ExpandConstant('{localappdata}\aegis'));
    SuppressibleMsgBox(CustomMessage('RunsKept'), mbInformation, MB_OK, IDOK);
  end;
end;
